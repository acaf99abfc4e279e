"""compressed-tensors' codes have no sign bits."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight_packed"
    write(directory, {name: read(directory, name) & 0x77})


FAULT = Fault("packed-weights", f"{EXPERT}.down_proj.weight_packed", "packing", break_, base="ct-w4a4", alone=False)
