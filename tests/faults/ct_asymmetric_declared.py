"""Weights are declared asymmetric: a zero point is looked for."""

from pathlib import Path

from _checkpoint_edit import GROUP, Fault, edit_group


def break_(directory: Path) -> None:
    edit_group(directory, lambda group: group["weights"].update(symmetric=False))


FAULT = Fault("declaration", f"{GROUP}.weights.symmetric", "configuration", break_, base="ct-w4a4")
