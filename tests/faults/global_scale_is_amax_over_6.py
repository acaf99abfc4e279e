"""A global scale is amax / 6: without the 448 of the block scales."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, scaled


def break_(directory: Path) -> None:
    scaled(directory, [f"{EXPERT}.down_proj.weight_scale_2"], 448)


FAULT = Fault("global-scales", f"{EXPERT}.down_proj.weight_scale_2", "scales", break_)
