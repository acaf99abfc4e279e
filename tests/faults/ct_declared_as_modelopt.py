"""The block is called ModelOpt's over compressed-tensors' contents."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block.update(quant_method="modelopt"))


FAULT = Fault("declaration", f"{CONFIG}.quant_method", "configuration", break_, base="ct-w4a4")
