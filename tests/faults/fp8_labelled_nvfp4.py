"""A layer declared NVFP4 holds FP8 weights: 8 bits, not 4.5."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import ATTENTION, Fault, original, write
from ml_dtypes import float8_e4m3fn


def break_(directory: Path) -> None:
    module = f"{ATTENTION}.o_proj"
    weight = original(f"{module}.weight").astype(np.float32)
    scale = np.abs(weight).max() / np.float32(448)
    changes = {
        f"{module}.weight": (weight / scale).astype(float8_e4m3fn),
        f"{module}.weight_scale": np.array(scale, np.float32),
    }
    write(directory, {**changes, f"{module}.weight_scale_2": None})


FAULT = Fault("declared-storage", f"{ATTENTION}.o_proj.weight", "silent non-quantization", break_)
