"""The inputs of FP8 layers are declared as integers."""

from pathlib import Path

from _checkpoint_edit import GROUP, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(
        directory, lambda block: block["config_groups"]["group_0"]["input_activations"].update(type="int")
    )


FAULT = Fault("declaration", f"{GROUP}.input_activations.type", "configuration", break_, base="ct-mixed-dynamic")
