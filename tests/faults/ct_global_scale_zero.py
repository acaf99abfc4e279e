"""A compressed-tensors global scale is 0: what it divides becomes infinite."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight_global_scale"
    write(directory, {name: np.zeros(1, np.float32)})


FAULT = Fault("global-scales", f"{EXPERT}.down_proj.weight_global_scale", "scales", break_, base="ct-w4a4")
