"""Block scales in float32; vLLM takes them without a word and reads them as something else."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight_scale"
    write(directory, {name: read(directory, name).astype(np.float32)})


FAULT = Fault("dtypes", f"{EXPERT}.down_proj.weight_scale", "scales", break_)
