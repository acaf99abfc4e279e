"""A weight was rounded towards zero instead of to the nearest code."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Array, Fault, original, read, write


def damaged(directory: Path, name: str) -> Array:
    module = name.removesuffix(".weight")
    weight = original(name).astype(np.float32)
    scales = read(directory, f"{module}.weight_scale").astype(np.float32) * read(directory, f"{module}.weight_scale_2")
    share = np.abs(weight) / np.repeat(scales, 16, axis=1)
    values = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
    code = (np.searchsorted(values, share, side="right") - 1).clip(0, 7).astype(np.uint8) | (weight < 0).astype(
        np.uint8
    ) << 3
    return code[:, 0::2] | code[:, 1::2] << 4


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight"
    write(directory, {name: damaged(directory, name)})


FAULT = Fault("packed-weights", f"{EXPERT}.down_proj.weight", "packing", break_, alone=False)
