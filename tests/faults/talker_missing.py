"""All of the talker is missing, and the config has it."""

from pathlib import Path

from _checkpoint_edit import Fault, write

from pytest_q3omni.omni.checkpoint import scan


def break_(directory: Path) -> None:
    names = [name for name in scan(directory).entries if name.startswith("talker.") and "code_predictor" not in name]
    write(directory, dict.fromkeys(names))


FAULT = Fault("names", "talker", "other stages", break_)
