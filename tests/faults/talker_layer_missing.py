"""A whole layer of the talker is missing."""

from pathlib import Path

from _checkpoint_edit import Fault, write

from pytest_q3omni.omni.checkpoint import scan


def break_(directory: Path) -> None:
    gone = [name for name in scan(directory).entries if name.startswith("talker.model.layers.0.")]
    write(directory, dict.fromkeys(gone))


FAULT = Fault("names", "talker.model.layers.0.", "other stages", break_)
