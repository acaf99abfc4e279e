"""A config group says blocks of 32."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block["config_groups"]["group_0"]["weights"].update(group_size=32))


FAULT = Fault("declaration", CONFIG, "configuration", break_, base="plain-nvfp4")
