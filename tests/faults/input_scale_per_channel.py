"""An input scale for each channel."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import ATTENTION, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{ATTENTION}.o_proj.input_scale"
    write(directory, {name: np.repeat(read(directory, name), 128)})


FAULT = Fault("shapes", f"{ATTENTION}.o_proj.input_scale", "scales", break_)
