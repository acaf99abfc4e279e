"""An input scale is amax / 448, as FP8 has it."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, Fault, scaled


def break_(directory: Path) -> None:
    scaled(directory, [f"{ATTENTION}.o_proj.input_scale"], 6)


FAULT = Fault("recorded-input-scales", f"{ATTENTION}.o_proj.input_scale", "calibration", break_)
