"""Outputs are declared quantized, which no engine does."""

from pathlib import Path

from _checkpoint_edit import GROUP, Fault, edit_group


def break_(directory: Path) -> None:
    edit_group(directory, lambda group: group.update(output_activations=group["weights"]))


FAULT = Fault("declaration", f"{GROUP}.output_activations", "configuration", break_, base="ct-w4a4")
