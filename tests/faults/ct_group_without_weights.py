"""A config group says nothing of weights."""

from pathlib import Path

from _checkpoint_edit import GROUP, Fault, edit_group


def break_(directory: Path) -> None:
    edit_group(directory, lambda group: group.pop("weights"))


FAULT = Fault("declaration", f"{GROUP}.weights", "configuration", break_, base="ct-w4a4")
