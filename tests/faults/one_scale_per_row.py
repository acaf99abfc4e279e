"""Scales per row where NVFP4 has them per block."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight_scale"
    write(directory, {name: np.ascontiguousarray(read(directory, name)[:, :1])})


FAULT = Fault("shapes", f"{EXPERT}.down_proj.weight_scale", "scales", break_)
