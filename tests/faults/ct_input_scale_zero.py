"""A compressed-tensors input scale is 0."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.input_global_scale"
    write(directory, {name: np.zeros(1, np.float32)})


FAULT = Fault("input-scales", f"{EXPERT}.down_proj.input_global_scale", "scales", break_, base="ct-w4a4")
