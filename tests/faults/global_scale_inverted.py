"""A global scale as compressed-tensors stores it: 2688 / amax."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight_scale_2"
    write(directory, {name: np.array(1 / read(directory, name), np.float32)})


FAULT = Fault("global-scales", f"{EXPERT}.down_proj.weight_scale_2", "scales", break_)
