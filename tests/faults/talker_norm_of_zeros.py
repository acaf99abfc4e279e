"""A norm of the talker is all zeros."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import Fault, bfloat16, read, write


def break_(directory: Path) -> None:
    name = "talker.model.norm.weight"
    write(directory, {name: bfloat16(np.zeros(read(directory, name).shape))})


FAULT = Fault("finite-values", "talker.model.norm.weight", "other stages", break_, base="plain-nvfp4", given=())
