"""A norm in float32: engines convert it, and only the size shows it."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import LAYER, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{LAYER}.input_layernorm.weight"
    write(directory, {name: read(directory, name).astype(np.float32)})


FAULT = Fault("planned-bytes", f"{LAYER}.input_layernorm.weight", "other stages", break_, severity="warning")
