"""A dimension is NaN, which is no JSON, and which Python's reader takes."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_header

NAME = "thinker.model.norm.weight"


def break_(directory: Path) -> None:
    edit_header(directory, lambda header: header[NAME].update(shape=[float("nan")]))


FAULT = Fault("container", "model.safetensors", "files", break_)
