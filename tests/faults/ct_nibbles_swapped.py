"""The nibbles of compressed-tensors' codes are swapped."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight_packed"
    write(directory, {name: read(directory, name) >> 4 | read(directory, name) << 4})


FAULT = Fault("packed-weights", f"{EXPERT}.down_proj.weight_packed", "packing", break_, base="ct-w4a4", alone=False)
