"""A weight of the audio tower is NaN."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import Array, Fault, read, write


def damaged(directory: Path, name: str) -> Array:
    values = read(directory, name)
    values.reshape(-1)[5] = np.nan
    return values


def break_(directory: Path) -> None:
    name = "thinker.audio_tower.layers.0.fc1.weight"
    write(directory, {name: damaged(directory, name)})


FAULT = Fault("finite-values", "thinker.audio_tower.layers.0.fc1.weight", "other stages", break_, given=())
