"""A global scale has two elements."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight_scale_2"
    write(directory, {name: np.repeat(read(directory, name), 2)})


FAULT = Fault("shapes", f"{EXPERT}.down_proj.weight_scale_2", "scales", break_)
