"""A key's scale is NaN, in compressed-tensors' layout."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import Fault, bfloat16, write


def break_(directory: Path) -> None:
    write(directory, {"thinker.model.layers.1.self_attn.k_scale": bfloat16(np.full(1, np.nan))})


FAULT = Fault("kv-cache-scales", "thinker.model.layers.1.self_attn.k_scale", "scales", break_, base="ct-fp8-kv")
