"""Inputs are declared with one static scale and no local ones."""

from pathlib import Path

from _checkpoint_edit import GROUP, Fault, edit_group


def break_(directory: Path) -> None:
    edit_group(directory, lambda group: group["input_activations"].update(dynamic=False))


FAULT = Fault("declaration", f"{GROUP}.input_activations.dynamic", "configuration", break_, base="ct-w4a4")
