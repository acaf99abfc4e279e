"""A header entry whose shape does not fit its bytes."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, edit_header


def break_(directory: Path) -> None:
    edit_header(directory, lambda header: header[f"{EXPERT}.down_proj.weight"].update(shape=[128, 64]))


FAULT = Fault("container", "model.safetensors", "files", break_)
