"""FP8 rows begin one too late."""

from pathlib import Path

import ml_dtypes
import numpy as np
from _checkpoint_edit import ATTENTION, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{ATTENTION}.q_proj.weight"
    write(directory, {name: np.roll(read(directory, name).view(np.uint8), 1, axis=0).view(ml_dtypes.float8_e4m3fn)})


FAULT = Fault("fp8-weights", f"{ATTENTION}.q_proj.weight", "scales", break_, base="mixed", alone=False)
