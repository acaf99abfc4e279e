"""A module of compressed-tensors' layout has scales and no codes."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight_packed"
    write(directory, {name: None})


FAULT = Fault("names", f"{EXPERT}.down_proj.weight_packed", "scales", break_, base="ct-w4a4")
