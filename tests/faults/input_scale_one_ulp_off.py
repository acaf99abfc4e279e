"""An input scale is the next float32 after the recorded one: computed by another rule than amax / 2688."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import ATTENTION, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{ATTENTION}.o_proj.input_scale"
    write(directory, {name: np.nextafter(read(directory, name), np.float32(np.inf))})


FAULT = Fault("recorded-input-scales", f"{ATTENTION}.o_proj.input_scale", "calibration", break_)
