"""A compressed-tensors input scale is 1.5 times off the recorded one."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import ATTENTION, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{ATTENTION}.o_proj.input_global_scale"
    write(directory, {name: (read(directory, name) * np.float32(1.5)).astype(np.float32)})


FAULT = Fault("recorded-input-scales", f"{ATTENTION}.o_proj.input_global_scale", "calibration", break_, base="ct-w4a4")
