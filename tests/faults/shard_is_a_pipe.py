"""A shard is a named pipe: whoever opens it waits for ever."""

import os
from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    shard = directory / "model-00002-of-00004.safetensors"
    shard.unlink()
    os.mkfifo(shard)


FAULT = Fault("container", "model-00002-of-00004.safetensors", "files", break_, base="sharded")
