"""Weights are declared dynamic: no stored scale is read."""

from pathlib import Path

from _checkpoint_edit import GROUP, Fault, edit_group


def break_(directory: Path) -> None:
    edit_group(directory, lambda group: group["weights"].update(dynamic=True))


FAULT = Fault("declaration", f"{GROUP}.weights.dynamic", "configuration", break_, base="ct-w4a4")
