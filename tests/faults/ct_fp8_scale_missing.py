"""An FP8 weight of compressed-tensors' layout has no scale."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, Fault, write


def break_(directory: Path) -> None:
    name = f"{ATTENTION}.q_proj.weight_scale"
    write(directory, {name: None})


FAULT = Fault("scales-present", f"{ATTENTION}.q_proj.weight_scale", "scales", break_, base="ct-mixed-dynamic")
