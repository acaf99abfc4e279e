"""The block scales of one row are 0: an output that is always 0."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight_scale"
    scales = read(directory, name)
    scales[17] = 0
    write(directory, {name: scales})


FAULT = Fault("block-scales", f"{EXPERT}.down_proj.weight_scale", "scales", break_)
