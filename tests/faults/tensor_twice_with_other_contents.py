"""A norm is stored in two shards, once with other values; which one counts depends on the reader."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import Fault, bfloat16, read, write_file

from pytest_q3omni.omni.checkpoint import scan

NAME = "thinker.model.norm.weight"


def break_(directory: Path) -> None:
    checkpoint = scan(directory)
    other = next(file for file in checkpoint.files if file != checkpoint.entries[NAME].file)
    here = [entry.info.name for entry in checkpoint.entries.values() if entry.file == other]
    write_file(
        other,
        {
            **{name: checkpoint.array(name) for name in here},
            NAME: bfloat16(2 * read(directory, NAME).astype(np.float32)),
        },
    )


FAULT = Fault("container", NAME, "files", break_, base="sharded")
