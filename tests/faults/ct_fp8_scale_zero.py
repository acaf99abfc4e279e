"""A compressed-tensors FP8 scale is 0."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import ATTENTION, Fault, bfloat16, write


def break_(directory: Path) -> None:
    name = f"{ATTENTION}.q_proj.weight_scale"
    write(directory, {name: bfloat16(np.zeros(1))})


FAULT = Fault("fp8-scales", f"{ATTENTION}.q_proj.weight_scale", "scales", break_, base="ct-mixed")
