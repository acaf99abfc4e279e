"""Every tensor comes from another model of the same shape: the source is not its source."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import Fault, write

from pytest_q3omni.omni.checkpoint import scan


def break_(directory: Path) -> None:
    checkpoint = scan(directory)
    changes = {}
    for entry in checkpoint.entries.values():
        values = checkpoint.array(entry.info.name)
        if entry.info.shape:
            changes[entry.info.name] = (
                np.roll(values.view(np.uint8).reshape(-1), 6).view(values.dtype).reshape(values.shape)
            )
    write(directory, changes)


FAULT = Fault("source-match", "checkpoint", "packing", break_)
