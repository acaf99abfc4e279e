"""The ignore list names a packed layer."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block["ignore"].append(f"{ATTENTION}.o_proj"))


FAULT = Fault("ignore-list", f"{CONFIG}.ignore", "configuration", break_, base="ct-w4a4")
