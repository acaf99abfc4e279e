"""Two experts of a layer are exchanged."""

from pathlib import Path

from _checkpoint_edit import EXPERT, LAYER, Fault, exchange


def break_(directory: Path) -> None:
    exchange(directory, EXPERT, f"{LAYER}.mlp.experts.5")


FAULT = Fault("packed-weights", f"{EXPERT}.gate_proj.weight", "packing", break_)
