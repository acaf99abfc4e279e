"""An input scale is NaN."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import ATTENTION, Fault, write


def break_(directory: Path) -> None:
    write(directory, {f"{ATTENTION}.o_proj.input_scale": np.array(np.nan, np.float32)})


FAULT = Fault("input-scales", f"{ATTENTION}.o_proj.input_scale", "scales", break_)
