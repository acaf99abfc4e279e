"""An input scale is infinite: enough to crash a server (compressed-tensors#595)."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, write


def break_(directory: Path) -> None:
    write(directory, {f"{EXPERT}.down_proj.input_scale": np.array(np.inf, np.float32)})


FAULT = Fault("input-scales", f"{EXPERT}.down_proj.input_scale", "scales", break_)
