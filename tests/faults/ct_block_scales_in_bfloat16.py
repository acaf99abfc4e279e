"""Block scales of compressed-tensors' layout are BF16."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, bfloat16, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight_scale"
    write(directory, {name: bfloat16(read(directory, name).astype(np.float32))})


FAULT = Fault("dtypes", f"{EXPERT}.down_proj.weight_scale", "scales", break_, base="ct-w4a4")
