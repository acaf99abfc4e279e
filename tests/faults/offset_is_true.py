"""An offset is `true`, which Python takes for 1."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_header

NAME = "thinker.model.norm.weight"


def break_(directory: Path) -> None:
    edit_header(directory, lambda header: header[NAME].update(data_offsets=[True, 257]))


FAULT = Fault("container", "model.safetensors", "files", break_)
