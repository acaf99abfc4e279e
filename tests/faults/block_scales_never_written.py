"""The block scales of one expert are all 1: initialised, never written."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight_scale"
    write(directory, {name: np.ones_like(read(directory, name))})


FAULT = Fault("weight-variety", f"{EXPERT}.down_proj.weight_scale", "scales", break_, given=())
