"""The format of the whole block is that of packed integers."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block.update(format="pack-quantized"))


FAULT = Fault("declaration", f"{CONFIG}.format", "configuration", break_, base="ct-w4a4")
