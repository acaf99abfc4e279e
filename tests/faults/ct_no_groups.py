"""There are no config groups."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block.update(config_groups={}))


FAULT = Fault("declaration", f"{CONFIG}.config_groups", "configuration", break_, base="ct-w4a4")
