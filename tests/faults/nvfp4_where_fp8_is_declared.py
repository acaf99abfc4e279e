"""A layer that is declared FP8 is packed as NVFP4."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, Fault, original, pack


def break_(directory: Path) -> None:
    pack(directory, f"{ATTENTION}.o_proj", original(f"{ATTENTION}.o_proj.weight"), input_scale=0.001)


FAULT = Fault("declared-storage", f"{ATTENTION}.o_proj.weight", "silent non-quantization", break_, base="mixed")
