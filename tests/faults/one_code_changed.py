"""One small weight changed its sign: within the bound, and not what packing gives."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight"
    codes = read(directory, name)
    row, column = np.argwhere((codes & 7) == 1)[0]
    codes[row, column] ^= 8
    write(directory, {name: codes})


FAULT = Fault("packed-weights", f"{EXPERT}.down_proj.weight", "packing", break_)
