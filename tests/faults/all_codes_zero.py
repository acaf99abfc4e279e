"""All codes of a packed weight are 0."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight"
    write(directory, {name: np.zeros_like(read(directory, name))})


FAULT = Fault("packed-weights", f"{EXPERT}.down_proj.weight", "packing", break_, alone=False)
