"""A weight of the vocoder is NaN."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import Array, Fault, read, write


def damaged(directory: Path, name: str) -> Array:
    values = read(directory, name)
    values.reshape(-1)[5] = np.nan
    return values


def break_(directory: Path) -> None:
    name = "code2wav.pre_transformer.layers.0.mlp.down_proj.weight"
    write(directory, {name: damaged(directory, name)})


FAULT = Fault(
    "finite-values", "code2wav.pre_transformer.layers.0.mlp.down_proj.weight", "other stages", break_, given=()
)
