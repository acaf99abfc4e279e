"""The low nibbles hold the left half of a row, the high ones the right half."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Array, Fault, read, write


def damaged(directory: Path, name: str) -> Array:
    codes = read(directory, name)
    values = np.stack([codes & 0xF, codes >> 4], axis=-1).reshape(len(codes), -1)
    half = values.shape[1] // 2
    return values[:, :half] | values[:, half:] << 4


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight"
    write(directory, {name: damaged(directory, name)})


FAULT = Fault("packed-weights", f"{EXPERT}.down_proj.weight", "packing", break_, alone=False)
