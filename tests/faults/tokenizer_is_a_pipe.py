"""tokenizer.json is a named pipe, at which a loader waits for ever; vocab.json and merges.txt lie beside it."""

import os
from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    file = directory / "tokenizer.json"
    file.unlink()
    os.mkfifo(file)


FAULT = Fault("container", "tokenizer.json", "files", break_)
