"""The ignore list is one text instead of a list."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block.update(ignore="lm_head"))


FAULT = Fault("declaration", f"{CONFIG}.ignore", "configuration", break_, base="ct-w4a4")
