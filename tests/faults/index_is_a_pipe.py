"""The index is a named pipe."""

import os
from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    index = directory / "model.safetensors.index.json"
    index.unlink()
    os.mkfifo(index)


FAULT = Fault("container", "model.safetensors.index.json", "files", break_, base="sharded")
