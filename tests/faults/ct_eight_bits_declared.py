"""Weights are declared with 8 bits over codes of 4."""

from pathlib import Path

from _checkpoint_edit import GROUP, Fault, edit_group


def break_(directory: Path) -> None:
    edit_group(directory, lambda group: group["weights"].update(num_bits=8))


FAULT = Fault("declaration", f"{GROUP}.weights", "configuration", break_, base="ct-w4a4")
