"""An expert was packed from weights with one percent of noise: a fine-tune's, or a bad read."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, bfloat16, original, pack


def break_(directory: Path) -> None:
    module = f"{EXPERT}.down_proj"
    weight = original(f"{module}.weight").astype(np.float32)
    noise = np.random.default_rng(3).standard_normal(weight.shape) * np.abs(weight).mean() / 10
    pack(directory, module, bfloat16(weight + noise))


FAULT = Fault("packed-weights", f"{EXPERT}.down_proj.weight", "packing", break_, alone=False)
