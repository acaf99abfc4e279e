"""A compressed-tensors global scale as ModelOpt stores it: amax / 2688, not turned over."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight_global_scale"
    write(directory, {name: (1 / read(directory, name)).astype(np.float32)})


FAULT = Fault("global-scales", f"{EXPERT}.down_proj.weight_global_scale", "scales", break_, base="ct-w4a4")
