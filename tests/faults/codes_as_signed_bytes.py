"""Codes are stored as I8."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight"
    write(directory, {name: read(directory, name).view(np.int8)})


FAULT = Fault("dtypes", f"{EXPERT}.down_proj.weight", "packing", break_)
