"""A key's scale is NaN: so is every token after the first."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import Fault, write

KEY = "thinker.model.layers.1.self_attn.k_proj.k_scale"


def break_(directory: Path) -> None:
    write(directory, {KEY: np.array(np.nan, np.float32)})


FAULT = Fault("kv-cache-scales", KEY, "scales", break_, base="fp8-kv")
