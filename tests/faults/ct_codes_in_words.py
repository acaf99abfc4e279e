"""compressed-tensors' codes are packed into 32-bit words, as its integer formats are."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight_packed"
    write(directory, {name: read(directory, name).view(np.int32)})


FAULT = Fault("declared-storage", f"{EXPERT}.down_proj.weight_packed", "packing", break_, base="ct-w4a4")
