"""A global scale is 1e-40: the product with any block scale underflows."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, write


def break_(directory: Path) -> None:
    write(directory, {f"{EXPERT}.down_proj.weight_scale_2": np.array(1e-40, np.float32)})


FAULT = Fault("global-scales", f"{EXPERT}.down_proj.weight_scale_2", "scales", break_)
