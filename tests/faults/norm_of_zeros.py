"""A norm is all zeros: its layer sees nothing."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import Fault, bfloat16, read, write


def break_(directory: Path) -> None:
    name = "thinker.model.layers.1.input_layernorm.weight"
    write(directory, {name: bfloat16(np.zeros(read(directory, name).shape))})


FAULT = Fault("finite-values", "thinker.model.layers.1.input_layernorm.weight", "other stages", break_, given=())
