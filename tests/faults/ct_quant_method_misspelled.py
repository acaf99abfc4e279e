"""quant_method is `compressed_tensors`, with an underscore."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block.update(quant_method="compressed_tensors"))


FAULT = Fault("declaration", f"{CONFIG}.quant_method", "configuration", break_, base="ct-w4a4")
