"""Every block has its neighbour's scale, in compressed-tensors' layout."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight_scale"
    scales = read(directory, name)
    write(directory, {name: np.roll(scales.view(np.uint8).reshape(-1), 1).reshape(scales.shape).view(scales.dtype)})


FAULT = Fault("packed-weights", f"{EXPERT}.down_proj.weight_packed", "packing", break_, base="ct-w4a4", alone=False)
