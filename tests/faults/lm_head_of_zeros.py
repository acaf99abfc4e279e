"""lm_head is all zeros: initialised, never loaded."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import Fault, bfloat16, read, write


def break_(directory: Path) -> None:
    name = "thinker.lm_head.weight"
    write(directory, {name: bfloat16(np.zeros(read(directory, name).shape))})


FAULT = Fault("finite-values", "thinker.lm_head.weight", "other stages", break_, given=())
