"""The scale of one row of an FP8 weight is 0."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, Array, Fault, read, write


def damaged(directory: Path, name: str) -> Array:
    scales = read(directory, name)
    scales[7] = 0
    return scales


def break_(directory: Path) -> None:
    name = f"{ATTENTION}.q_proj.weight_scale"
    write(directory, {name: damaged(directory, name)})


FAULT = Fault("fp8-scales", f"{ATTENTION}.q_proj.weight_scale", "scales", break_, base="ct-mixed-dynamic")
