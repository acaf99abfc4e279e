"""Block scales of the right shape, filled column by column."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.gate_proj.weight_scale"
    scales = read(directory, name)
    write(directory, {name: np.ascontiguousarray(scales.T).reshape(scales.shape)})


FAULT = Fault("packed-weights", f"{EXPERT}.gate_proj.weight", "packing", break_)
