"""All global scales are amax / 2688, as ModelOpt stores them: converted without turning them over."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import Fault, read, write

from pytest_q3omni.omni.checkpoint import scan


def break_(directory: Path) -> None:
    names = [name for name in scan(directory).entries if name.endswith(".weight_global_scale")]
    write(directory, {name: (1 / read(directory, name)).astype(np.float32) for name in names})


FAULT = Fault("global-scales", "weight_global_scale", "scales", break_, base="ct-w4a4")
