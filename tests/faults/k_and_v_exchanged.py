"""A layer's keys and values are exchanged."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, Fault, exchange


def break_(directory: Path) -> None:
    exchange(directory, f"{ATTENTION}.k_proj", f"{ATTENTION}.v_proj")


FAULT = Fault("packed-weights", f"{ATTENTION}.", "packing", break_, alone=False)
