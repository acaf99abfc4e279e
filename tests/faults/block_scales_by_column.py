"""Block scales were computed down the columns, and laid out like scales of rows."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import ATTENTION, Fault, original, read, write


def break_(directory: Path) -> None:
    module = f"{ATTENTION}.q_proj"
    weight = original(f"{module}.weight").astype(np.float32)
    amax = np.abs(weight.T.reshape(weight.shape[1], -1, 16)).max(axis=-1)
    scales = amax / 6 / read(directory, f"{module}.weight_scale_2")
    stored = read(directory, f"{module}.weight_scale")
    write(directory, {f"{module}.weight_scale": scales.astype(np.float32).reshape(stored.shape).astype(stored.dtype)})


FAULT = Fault("packed-weights", f"{ATTENTION}.q_proj.weight", "scales", break_, alone=False)
