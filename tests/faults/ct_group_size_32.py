"""Weights are declared in groups of 32; kernels take 16, and the scales are for 16."""

from pathlib import Path

from _checkpoint_edit import GROUP, Fault, edit_group


def break_(directory: Path) -> None:
    edit_group(directory, lambda group: group["weights"].update(group_size=32))


FAULT = Fault("declaration", f"{GROUP}.weights.group_size", "configuration", break_, base="ct-w4a4")
