"""An FP8 weight has a scale for each row, and one is declared."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import ATTENTION, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{ATTENTION}.q_proj.weight_scale"
    write(directory, {name: np.repeat(read(directory, name), 128)})


FAULT = Fault("shapes", f"{ATTENTION}.q_proj.weight_scale", "scales", break_, base="mixed")
