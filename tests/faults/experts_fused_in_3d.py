"""transformers 5's memory layout in a file: all experts of a layer in one tensor."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import LAYER, Fault, bfloat16, write


def break_(directory: Path) -> None:
    write(directory, {f"{LAYER}.mlp.experts.down_proj": bfloat16(np.ones((8, 128, 64)))})


FAULT = Fault("names", f"{LAYER}.mlp.experts.down_proj", "other stages", break_)
