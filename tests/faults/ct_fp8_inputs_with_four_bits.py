"""The inputs of FP8 layers are declared with four bits."""

from pathlib import Path

from _checkpoint_edit import GROUP, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(
        directory, lambda block: block["config_groups"]["group_0"]["input_activations"].update(num_bits=4)
    )


FAULT = Fault("declaration", f"{GROUP}.input_activations.num_bits", "configuration", break_, base="ct-mixed")
