"""The length of the header is 0."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    file = directory / "model.safetensors"
    file.write_bytes(bytes(8) + file.read_bytes()[8:])


FAULT = Fault("container", "model.safetensors", "files", break_)
