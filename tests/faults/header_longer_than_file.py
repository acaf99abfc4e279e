"""The header announces more bytes than the file has."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    file = directory / "model.safetensors"
    file.write_bytes((1 << 40).to_bytes(8, "little") + file.read_bytes()[8:])


FAULT = Fault("container", "model.safetensors", "files", break_)
