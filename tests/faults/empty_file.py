"""The weights are a file of no bytes: a disk that was full."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    (directory / "model.safetensors").write_bytes(b"")


FAULT = Fault("container", "model.safetensors", "files", break_)
