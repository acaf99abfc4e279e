"""gate and up of an expert have exchanged their codes, and kept their scales."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    first, second = f"{EXPERT}.gate_proj.weight", f"{EXPERT}.up_proj.weight"
    write(directory, {first: read(directory, second), second: read(directory, first)})


FAULT = Fault("packed-weights", f"{EXPERT}.", "packing", break_, alone=False)
