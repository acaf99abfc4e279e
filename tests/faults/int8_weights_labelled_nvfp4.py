"""A layer holds eight-bit integers for each weight, and calls them NVFP4."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, original, write


def break_(directory: Path) -> None:
    module = f"{EXPERT}.down_proj"
    weight = original(f"{module}.weight").astype(np.float32)
    codes = np.round(weight / np.abs(weight).max() * 127).astype(np.int8)
    write(directory, {f"{module}.weight": codes})


FAULT = Fault("shapes", f"{EXPERT}.down_proj.weight", "silent non-quantization", break_)
