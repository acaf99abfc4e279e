"""An FP8 input scale is 100 times too small: inputs saturate."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import ATTENTION, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{ATTENTION}.q_proj.input_scale"
    write(directory, {name: np.asarray(read(directory, name) / 100, np.float32)})


FAULT = Fault("fp8-input-scale-range", f"{ATTENTION}.q_proj.input_scale", "scales", break_, base="mixed")
