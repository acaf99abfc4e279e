"""One block scale is negative."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight_scale"
    scales = read(directory, name)
    scales.view(np.uint8)[5, 1] = 0xB8
    write(directory, {name: scales})


FAULT = Fault("block-scales", f"{EXPERT}.down_proj.weight_scale", "scales", break_)
