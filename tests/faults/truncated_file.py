"""The last 1,000 bytes are missing: a copy that was cut short."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


FAULT = Fault("container", "model.safetensors", "files", break_)
