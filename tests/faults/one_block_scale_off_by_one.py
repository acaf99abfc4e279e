"""One block scale is the next larger number."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight_scale"
    scales = read(directory, name)
    codes = scales.view(np.uint8)
    codes[codes < 0x7E] += np.arange((codes < 0x7E).sum(), dtype=np.uint8) == 7
    write(directory, {name: scales})


FAULT = Fault("packed-weights", f"{EXPERT}.down_proj.weight", "packing", break_)
