"""No code has its sign bit."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight"
    write(directory, {name: read(directory, name) & 0x77})


FAULT = Fault("packed-weights", f"{EXPERT}.down_proj.weight", "packing", break_)
