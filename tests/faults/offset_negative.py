"""A tensor's data begin before the file's."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_header

NAME = "thinker.model.norm.weight"


def break_(directory: Path) -> None:
    edit_header(directory, lambda header: header[NAME].update(data_offsets=[-256, 0]))


FAULT = Fault("container", "model.safetensors", "files", break_)
