"""A layer is FP8, and the config says nothing of it."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block["quantized_layers"].pop(f"{ATTENTION}.o_proj"))


FAULT = Fault("declared-storage", f"{ATTENTION}.o_proj.weight", "silent non-quantization", break_, base="mixed")
