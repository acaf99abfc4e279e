"""An ignore pattern matches the packed experts."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block["ignore"].append("*mlp.experts*"))


FAULT = Fault("ignore-list", f"{CONFIG}.ignore", "configuration", break_)
