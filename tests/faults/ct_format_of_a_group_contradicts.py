"""A group's format is that of packed integers."""

from pathlib import Path

from _checkpoint_edit import GROUP, Fault, edit_group


def break_(directory: Path) -> None:
    edit_group(directory, lambda group: group.update(format="pack-quantized"))


FAULT = Fault("declaration", f"{GROUP}.format", "configuration", break_, base="ct-w4a4")
