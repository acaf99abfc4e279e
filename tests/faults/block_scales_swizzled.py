"""Block scales lie in the kernel's order of 128 x 4 tiles, not row by row: an engine swizzles them again."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import ATTENTION, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{ATTENTION}.q_proj.weight_scale"
    scales = read(directory, name)
    tiles = scales.view(np.uint8).reshape(-1, 4, 32, scales.shape[1] // 4, 4).transpose(0, 3, 2, 1, 4)
    write(directory, {name: np.ascontiguousarray(tiles).reshape(scales.shape).view(scales.dtype)})


FAULT = Fault("packed-weights", f"{ATTENTION}.q_proj.weight", "scales", break_, alone=False)
