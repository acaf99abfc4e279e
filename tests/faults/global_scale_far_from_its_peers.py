"""A global scale in another unit: 2688 times too small, plausible alone."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, scaled


def break_(directory: Path) -> None:
    scaled(directory, [f"{EXPERT}.down_proj.weight_scale_2"], 1 / 2688)


FAULT = Fault("global-scales", f"{EXPERT}.down_proj.weight_scale_2", "scales", break_)
