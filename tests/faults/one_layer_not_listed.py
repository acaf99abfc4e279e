"""One packed layer is not in quantized_layers."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block["quantized_layers"].pop(f"{ATTENTION}.o_proj"))


FAULT = Fault("declared-storage", f"{ATTENTION}.o_proj.weight", "configuration", break_, base="nvfp4-default")
