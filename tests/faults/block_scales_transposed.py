"""Block scales written (in/16, out)."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.gate_proj.weight_scale"
    write(directory, {name: np.ascontiguousarray(read(directory, name).T)})


FAULT = Fault("shapes", f"{EXPERT}.gate_proj.weight_scale", "scales", break_)
