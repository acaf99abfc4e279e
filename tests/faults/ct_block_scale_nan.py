"""A block scale of compressed-tensors' layout is NaN."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Array, Fault, read, write


def damaged(directory: Path, name: str) -> Array:
    scales = read(directory, name)
    scales.view(np.uint8)[3, 1] = 0x7F
    return scales


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight_scale"
    write(directory, {name: damaged(directory, name)})


FAULT = Fault("block-scales", f"{EXPERT}.down_proj.weight_scale", "scales", break_, base="ct-w4a4")
