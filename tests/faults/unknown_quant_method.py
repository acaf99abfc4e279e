"""A quant_method that no layout knows."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block.update(quant_method="fp4"))


FAULT = Fault("declaration", f"{CONFIG}.quant_method", "configuration", break_)
