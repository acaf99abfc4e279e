"""The format says `dense`: the weights are called uncompressed."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block.update(format="dense"))


FAULT = Fault("declaration", f"{CONFIG}.format", "configuration", break_, base="ct-w4a4")
