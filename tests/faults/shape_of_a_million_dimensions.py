"""A shape has a million dimensions."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_header

NAME = "thinker.model.norm.weight"


def break_(directory: Path) -> None:
    edit_header(directory, lambda header: header[NAME].update(shape=[1] * 1_000_000 + [128]))


FAULT = Fault("container", "model.safetensors", "files", break_)
