"""The length of the header is 2^63: an allocation that no machine can make."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    file = directory / "model.safetensors"
    file.write_bytes((1 << 63).to_bytes(8, "little") + file.read_bytes()[8:])


FAULT = Fault("container", "model.safetensors", "files", break_)
