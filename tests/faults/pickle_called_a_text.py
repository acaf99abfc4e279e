"""A pickle is called notes.txt."""

import pickle
from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    (directory / "notes.txt").write_bytes(pickle.dumps({"a": 1}))


FAULT = Fault("pickles", "notes.txt", "files", break_)
