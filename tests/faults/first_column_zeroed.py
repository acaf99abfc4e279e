"""The first column of a packed weight is 0."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Array, Fault, read, write


def damaged(directory: Path, name: str) -> Array:
    codes = read(directory, name)
    codes[:, 0] &= 0xF0
    return codes


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight"
    write(directory, {name: damaged(directory, name)})


FAULT = Fault("packed-weights", f"{EXPERT}.down_proj.weight", "packing", break_, alone=False)
