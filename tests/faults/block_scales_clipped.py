"""Block scales above 200 were cut off there."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight_scale"
    scales = read(directory, name)
    write(directory, {name: np.minimum(scales.astype(np.float32), 192).astype(scales.dtype)})


FAULT = Fault("packed-weights", f"{EXPERT}.down_proj.weight", "scales", break_, alone=False)
