"""Inputs are declared with 8 bits: W4A8, which no kernel of this format computes."""

from pathlib import Path

from _checkpoint_edit import GROUP, Fault, edit_group


def break_(directory: Path) -> None:
    edit_group(directory, lambda group: group["input_activations"].update(num_bits=8))


FAULT = Fault("declaration", f"{GROUP}.input_activations.num_bits", "configuration", break_, base="ct-w4a4")
