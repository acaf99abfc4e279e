"""A module of compressed-tensors' layout has no block scales."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight_scale"
    write(directory, {name: None})


FAULT = Fault("scales-present", f"{EXPERT}.down_proj.weight_scale", "scales", break_, base="ct-w4a4")
