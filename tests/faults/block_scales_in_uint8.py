"""Block scales as bare bytes: engines convert 120 to 120.0 instead of reading E4M3."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight_scale"
    write(directory, {name: read(directory, name).view(np.uint8)})


FAULT = Fault("dtypes", f"{EXPERT}.down_proj.weight_scale", "scales", break_)
