"""q, k and v of a layer have different input scales in compressed-tensors' layout."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import ATTENTION, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{ATTENTION}.k_proj.input_global_scale"
    write(directory, {name: (read(directory, name) * np.float32(2)).astype(np.float32)})


FAULT = Fault("shared-input-scales", f"{ATTENTION}.k_proj.input_global_scale", "scales", break_, base="ct-w4a4")
