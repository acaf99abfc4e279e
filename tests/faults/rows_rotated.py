"""Codes and scales of a matrix begin one row too late."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import ATTENTION, Fault, read, write


def break_(directory: Path) -> None:
    for suffix in ("weight", "weight_scale"):
        name = f"{ATTENTION}.q_proj.{suffix}"
        values = read(directory, name)
        write(directory, {name: np.roll(values.view(np.uint8), 1, axis=0).view(values.dtype)})


FAULT = Fault("packed-weights", f"{ATTENTION}.q_proj.weight", "packing", break_)
