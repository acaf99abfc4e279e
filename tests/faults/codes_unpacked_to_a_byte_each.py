"""Codes take a byte each: eight bits for each weight."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight"
    codes = read(directory, name)
    write(directory, {name: np.stack([codes & 0xF, codes >> 4], axis=-1).reshape(len(codes), -1)})


FAULT = Fault("shapes", f"{EXPERT}.down_proj.weight", "packing", break_)
