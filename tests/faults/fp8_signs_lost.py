"""No FP8 weight has its sign bit."""

from pathlib import Path

import ml_dtypes
import numpy as np
from _checkpoint_edit import ATTENTION, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{ATTENTION}.q_proj.weight"
    write(directory, {name: (read(directory, name).view(np.uint8) & 0x7F).view(ml_dtypes.float8_e4m3fn)})


FAULT = Fault("fp8-weights", f"{ATTENTION}.q_proj.weight", "scales", break_, base="mixed", alone=False)
