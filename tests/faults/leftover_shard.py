"""A shard of an earlier export lies beside the others; vLLM reads every shard it finds."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import Fault, write_file


def break_(directory: Path) -> None:
    write_file(directory / "leftover.safetensors", {"thinker.old.weight": np.zeros((16, 16), np.float32)})


FAULT = Fault("index", "leftover.safetensors", "files", break_, base="sharded")
