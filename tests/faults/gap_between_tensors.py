"""A tensor left the header, its bytes stayed in the file: room for anything."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, edit_header


def break_(directory: Path) -> None:
    edit_header(directory, lambda header: header.pop(f"{EXPERT}.down_proj.weight"))


FAULT = Fault("container", "model.safetensors", "files", break_)
