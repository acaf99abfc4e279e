"""The last row of an FP8 weight is 0."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import ATTENTION, Array, Fault, read, write


def damaged(directory: Path, name: str) -> Array:
    codes = read(directory, name)
    codes.view(np.uint8)[-1] = 0
    return codes


def break_(directory: Path) -> None:
    name = f"{ATTENTION}.q_proj.weight"
    write(directory, {name: damaged(directory, name)})


FAULT = Fault("fp8-weights", f"{ATTENTION}.q_proj.weight", "scales", break_, base="mixed", alone=False)
