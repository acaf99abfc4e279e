"""A layer that is declared NVFP4 is FP8."""

from pathlib import Path

import ml_dtypes
import numpy as np
from _checkpoint_edit import EXPERT, Fault, original, write


def break_(directory: Path) -> None:
    module = f"{EXPERT}.down_proj"
    weight = original(f"{module}.weight").astype(np.float32)
    scale = np.array(np.abs(weight).max() / 448, np.float32)
    codes = (weight / scale).astype(ml_dtypes.float8_e4m3fn)
    write(directory, {f"{module}.weight": codes, f"{module}.weight_scale": scale, f"{module}.weight_scale_2": None})


FAULT = Fault("declared-storage", f"{EXPERT}.down_proj.weight", "silent non-quantization", break_, base="mixed")
