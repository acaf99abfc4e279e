"""The input scale of o_proj is 100 times too small, and no record is at hand."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, Fault, scaled


def break_(directory: Path) -> None:
    scaled(directory, [f"{ATTENTION}.o_proj.input_scale"], 1 / 100)


FAULT = Fault("input-scale-range", f"{ATTENTION}.o_proj.input_scale", "scales", break_, given=("source",))
