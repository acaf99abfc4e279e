"""An FP8 weight scale is 100 times too large."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import ATTENTION, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{ATTENTION}.q_proj.weight_scale"
    write(directory, {name: np.asarray(100 * read(directory, name), np.float32)})


FAULT = Fault("fp8-weights", f"{ATTENTION}.q_proj.weight", "scales", break_, base="mixed", alone=False)
