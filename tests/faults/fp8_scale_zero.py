"""An FP8 weight scale is 0."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import ATTENTION, Fault, write


def break_(directory: Path) -> None:
    name = f"{ATTENTION}.q_proj.weight_scale"
    write(directory, {name: np.array(0, np.float32)})


FAULT = Fault("fp8-scales", f"{ATTENTION}.q_proj.weight_scale", "scales", break_, base="mixed")
