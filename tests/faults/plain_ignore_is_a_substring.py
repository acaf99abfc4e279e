"""An entry `layers.1.self_attn.o` of the ignore list is a substring of a packed layer."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block["ignore"].append("layers.1.self_attn.o"))


FAULT = Fault("ignore-list", f"{CONFIG}.ignore", "configuration", break_, base="plain-nvfp4")
