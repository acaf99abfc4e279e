"""Codes are stored as (in / 2, out)."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight"
    write(directory, {name: np.ascontiguousarray(read(directory, name).T)})


FAULT = Fault("shapes", f"{EXPERT}.down_proj.weight", "packing", break_)
