"""The heads of q are rotated by one: each answers for its neighbour."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import ATTENTION, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{ATTENTION}.q_proj.weight"
    write(directory, {name: np.roll(read(directory, name), 32, axis=0)})


FAULT = Fault("packed-weights", f"{ATTENTION}.q_proj.weight", "packing", break_, alone=False)
