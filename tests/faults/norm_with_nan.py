"""A norm has a NaN; without the source only its values tell."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import Array, Fault, read, write


def damaged(directory: Path, name: str) -> Array:
    values = read(directory, name)
    values.reshape(-1)[5] = np.nan
    return values


def break_(directory: Path) -> None:
    name = "thinker.model.layers.1.input_layernorm.weight"
    write(directory, {name: damaged(directory, name)})


FAULT = Fault("finite-values", "thinker.model.layers.1.input_layernorm.weight", "other stages", break_, given=())
