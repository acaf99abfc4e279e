"""FP8 weights are stored as U8."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import ATTENTION, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{ATTENTION}.q_proj.weight"
    write(directory, {name: read(directory, name).view(np.uint8)})


FAULT = Fault("declared-storage", f"{ATTENTION}.q_proj.weight", "scales", break_, base="mixed")
