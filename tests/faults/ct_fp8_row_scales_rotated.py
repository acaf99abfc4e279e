"""Each row of an FP8 weight has its neighbour's scale."""

from pathlib import Path

import ml_dtypes
import numpy as np
from _checkpoint_edit import ATTENTION, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{ATTENTION}.q_proj.weight_scale"
    write(directory, {name: np.roll(read(directory, name).view(np.uint16), 1, axis=0).view(ml_dtypes.bfloat16)})


FAULT = Fault("fp8-weights", f"{ATTENTION}.q_proj.weight", "scales", break_, base="ct-mixed-dynamic", alone=False)
