"""A compressed-tensors input scale as ModelOpt stores it: not turned over."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.input_global_scale"
    write(directory, {name: (1 / read(directory, name)).astype(np.float32)})


FAULT = Fault("shared-input-scales", f"{EXPERT}.down_proj.input_global_scale", "scales", break_, base="ct-w4a4")
