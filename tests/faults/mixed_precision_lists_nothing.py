"""MIXED_PRECISION with an empty list."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block.update(quantized_layers={}))


FAULT = Fault("declaration", f"{CONFIG}.quantized_layers", "configuration", break_, base="nvfp4-default")
