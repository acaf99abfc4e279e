"""An input scale is 1.5 times the recorded one."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, Fault, scaled


def break_(directory: Path) -> None:
    scaled(directory, [f"{ATTENTION}.o_proj.input_scale"], 1.5)


FAULT = Fault("recorded-input-scales", f"{ATTENTION}.o_proj.input_scale", "calibration", break_)
