"""A router is all zeros: every token goes to the first experts."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import Fault, bfloat16, read, write


def break_(directory: Path) -> None:
    name = "thinker.model.layers.0.mlp.gate.weight"
    write(directory, {name: bfloat16(np.zeros(read(directory, name).shape))})


FAULT = Fault("finite-values", "thinker.model.layers.0.mlp.gate.weight", "other stages", break_, given=())
