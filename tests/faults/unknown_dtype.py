"""A header entry with a dtype that the format does not have."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, edit_header


def break_(directory: Path) -> None:
    edit_header(directory, lambda header: header[f"{EXPERT}.down_proj.weight"].update(dtype="F4_E2M1"))


FAULT = Fault("container", "model.safetensors", "files", break_)
