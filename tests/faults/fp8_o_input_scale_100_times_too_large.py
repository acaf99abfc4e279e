"""An FP8 input scale of o_proj is 100 times too large."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import ATTENTION, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{ATTENTION}.o_proj.input_scale"
    write(directory, {name: np.asarray(100 * read(directory, name), np.float32)})


FAULT = Fault("fp8-input-scale-range", f"{ATTENTION}.o_proj.input_scale", "scales", break_, base="mixed")
