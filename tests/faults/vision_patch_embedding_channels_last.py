"""The vision tower's patch embedding is stored with its channels last."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import Fault, read, write


def break_(directory: Path) -> None:
    name = "thinker.visual.patch_embed.proj.weight"
    write(directory, {name: np.ascontiguousarray(np.moveaxis(read(directory, name), 1, -1))})


FAULT = Fault("shapes", "thinker.visual.patch_embed.proj.weight", "other stages", break_)
