"""A layer that is declared FP8 is BF16."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, Fault, unpack


def break_(directory: Path) -> None:
    unpack(directory, f"{ATTENTION}.o_proj")


FAULT = Fault("declared-storage", f"{ATTENTION}.o_proj.weight", "silent non-quantization", break_, base="mixed")
