"""An FP8 weight is E5M2: the same bytes mean other numbers."""

from pathlib import Path

import ml_dtypes
import numpy as np
from _checkpoint_edit import ATTENTION, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{ATTENTION}.q_proj.weight"
    write(directory, {name: read(directory, name).astype(np.float32).astype(ml_dtypes.float8_e5m2)})


FAULT = Fault("dtypes", f"{ATTENTION}.q_proj.weight", "scales", break_, base="mixed")
