"""A router in float16, as wide as BF16 and with another range."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import LAYER, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{LAYER}.mlp.gate.weight"
    write(directory, {name: read(directory, name).astype(np.float16)})


FAULT = Fault("dtypes", f"{LAYER}.mlp.gate.weight", "other stages", break_)
