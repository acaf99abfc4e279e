"""Every code is one step too small, where it can be."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Array, Fault, read, write


def damaged(directory: Path, name: str) -> Array:
    table = np.array([max(0, code - 1) for code in range(8)] + [8 | max(0, code - 1) for code in range(8)], np.uint8)
    codes = read(directory, name)
    return table[codes & 0xF] | table[codes >> 4] << 4


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight"
    write(directory, {name: damaged(directory, name)})


FAULT = Fault("packed-weights", f"{EXPERT}.down_proj.weight", "packing", break_, alone=False)
