"""Block scales were rounded to powers of two, as MXFP4 has them."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight_scale"
    scales = read(directory, name)
    write(directory, {name: np.exp2(np.floor(np.log2(scales.astype(np.float32)))).astype(scales.dtype)})


FAULT = Fault("packed-weights", f"{EXPERT}.down_proj.weight", "scales", break_, alone=False)
