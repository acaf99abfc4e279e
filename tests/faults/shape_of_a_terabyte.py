"""A shape claims a terabyte: whoever allocates it before looking at the file dies."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_header

NAME = "thinker.model.norm.weight"


def break_(directory: Path) -> None:
    edit_header(directory, lambda header: header[NAME].update(shape=[1 << 20, 1 << 19]))


FAULT = Fault("container", "model.safetensors", "files", break_)
