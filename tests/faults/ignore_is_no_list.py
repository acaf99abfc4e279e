"""The ignore list is a string."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block.update(ignore="thinker.visual*"))


FAULT = Fault("declaration", f"{CONFIG}.ignore", "configuration", break_)
