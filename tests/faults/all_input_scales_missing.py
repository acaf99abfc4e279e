"""A W4A4 checkpoint without any input scale: weight-only files under a W4A4 label."""

from pathlib import Path

from _checkpoint_edit import Fault, write

from pytest_q3omni.omni.checkpoint import scan


def break_(directory: Path) -> None:
    write(directory, dict.fromkeys(name for name in scan(directory).entries if name.endswith(".input_scale")))


FAULT = Fault("scales-present", ".input_scale", "scales", break_)
