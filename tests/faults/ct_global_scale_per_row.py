"""A compressed-tensors global scale for each row."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight_global_scale"
    write(directory, {name: np.repeat(read(directory, name), 128)})


FAULT = Fault("shapes", f"{EXPERT}.down_proj.weight_global_scale", "scales", break_, base="ct-w4a4")
