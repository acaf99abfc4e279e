"""The vision tower is missing."""

from pathlib import Path

from _checkpoint_edit import Fault, write

from pytest_q3omni.omni.checkpoint import scan


def break_(directory: Path) -> None:
    write(directory, dict.fromkeys(name for name in scan(directory).entries if name.startswith("thinker.visual.")))


FAULT = Fault("names", "thinker.visual.", "other stages", break_)
