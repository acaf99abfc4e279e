"""One FP8 weight of compressed-tensors' layout is NaN."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import ATTENTION, Array, Fault, read, write


def damaged(directory: Path, name: str) -> Array:
    codes = read(directory, name)
    codes.view(np.uint8)[5, 9] = 0x7F
    return codes


def break_(directory: Path) -> None:
    name = f"{ATTENTION}.q_proj.weight"
    write(directory, {name: damaged(directory, name)})


FAULT = Fault("fp8-scales", f"{ATTENTION}.q_proj.weight", "scales", break_, base="ct-mixed-dynamic")
