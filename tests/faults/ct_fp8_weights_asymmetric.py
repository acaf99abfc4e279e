"""FP8 weights are declared asymmetric: a zero point is looked for."""

from pathlib import Path

from _checkpoint_edit import GROUP, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block["config_groups"]["group_0"]["weights"].update(symmetric=False))


FAULT = Fault("declaration", f"{GROUP}.weights", "configuration", break_, base="ct-mixed")
