"""gate and up of an expert are exchanged: silu is applied to the wrong one."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, exchange


def break_(directory: Path) -> None:
    exchange(directory, f"{EXPERT}.gate_proj", f"{EXPERT}.up_proj")


FAULT = Fault("packed-weights", f"{EXPERT}.up_proj.weight", "packing", break_)
