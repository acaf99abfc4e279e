"""A compressed-tensors global scale is negative."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight_global_scale"
    write(directory, {name: -read(directory, name)})


FAULT = Fault("global-scales", f"{EXPERT}.down_proj.weight_global_scale", "scales", break_, base="ct-w4a4")
