"""Weights are declared as integers: engines take other kernels."""

from pathlib import Path

from _checkpoint_edit import GROUP, Fault, edit_group


def break_(directory: Path) -> None:
    edit_group(directory, lambda group: group["weights"].update(type="int"))


FAULT = Fault("declaration", f"{GROUP}.weights", "configuration", break_, base="ct-w4a4")
