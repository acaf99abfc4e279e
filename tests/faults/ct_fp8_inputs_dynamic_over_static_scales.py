"""Inputs of FP8 layers by tensor are declared dynamic, over stored scales."""

from pathlib import Path

from _checkpoint_edit import GROUP, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(
        directory, lambda block: block["config_groups"]["group_0"]["input_activations"].update(dynamic=True)
    )


FAULT = Fault("declaration", f"{GROUP}.input_activations.dynamic", "configuration", break_, base="ct-mixed")
