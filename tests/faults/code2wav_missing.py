"""The vocoder is missing, and the config still has it: no audio."""

from pathlib import Path

from _checkpoint_edit import Fault, write

from pytest_q3omni.omni.checkpoint import scan


def break_(directory: Path) -> None:
    write(directory, dict.fromkeys(name for name in scan(directory).entries if name.startswith("code2wav.")))


FAULT = Fault("names", "code2wav", "other stages", break_)
