"""A config group's targets are one text instead of a list."""

from pathlib import Path

from _checkpoint_edit import GROUP, Fault, edit_group


def break_(directory: Path) -> None:
    edit_group(directory, lambda group: group.update(targets="Linear"))


FAULT = Fault("declaration", GROUP, "configuration", break_, base="ct-w4a4")
