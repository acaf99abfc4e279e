"""FP8 weights were read as E4M3FNUZ (AMD's): half the value."""

from pathlib import Path

import ml_dtypes
import numpy as np
from _checkpoint_edit import ATTENTION, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{ATTENTION}.q_proj.weight"
    write(directory, {name: (read(directory, name).astype(np.float32) / 2).astype(ml_dtypes.float8_e4m3fn)})


FAULT = Fault("fp8-weights", f"{ATTENTION}.q_proj.weight", "scales", break_, base="mixed", alone=False)
