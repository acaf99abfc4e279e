"""A value of `__metadata__` is a number; the library refuses the file."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_header


def break_(directory: Path) -> None:
    edit_header(directory, lambda header: header.update(__metadata__={"format": 1}))


FAULT = Fault("container", "model.safetensors", "files", break_)
