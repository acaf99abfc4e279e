"""gate and up of an expert are exchanged, in compressed-tensors' layout."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, exchange


def break_(directory: Path) -> None:
    exchange(directory, f"{EXPERT}.gate_proj", f"{EXPERT}.up_proj")


FAULT = Fault("packed-weights", f"{EXPERT}.", "packing", break_, base="ct-w4a4", alone=False)
