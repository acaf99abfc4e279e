"""The header is a JSON list."""

from pathlib import Path

from _checkpoint_edit import Fault, write_header


def break_(directory: Path) -> None:
    write_header(directory, b"[1, 2, 3]")


FAULT = Fault("container", "model.safetensors", "files", break_)
