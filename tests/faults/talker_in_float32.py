"""The whole talker in float32, twice its size."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import Fault, read, write

from pytest_q3omni.omni.checkpoint import scan


def break_(directory: Path) -> None:
    names = [name for name in scan(directory).entries if name.startswith("talker.")]
    write(directory, {name: read(directory, name).astype(np.float32) for name in names})


FAULT = Fault("planned-bytes", "talker.", "other stages", break_)
