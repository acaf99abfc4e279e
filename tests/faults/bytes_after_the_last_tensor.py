"""The file goes on after its last tensor: another file hangs on to it."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes() + b"PK" + bytes(1000))


FAULT = Fault("container", "model.safetensors", "files", break_)
