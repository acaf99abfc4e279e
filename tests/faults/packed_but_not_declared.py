"""A packed layer is not in quantized_layers: engines build it for BF16."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block["quantized_layers"].pop(f"{ATTENTION}.o_proj"))


FAULT = Fault("declared-storage", f"{ATTENTION}.o_proj.weight", "silent non-quantization", break_)
