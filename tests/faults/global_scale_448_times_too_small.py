"""A global scale is divided by 448 once more: a weight that hardly counts."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, scaled


def break_(directory: Path) -> None:
    scaled(directory, [f"{EXPERT}.down_proj.weight_scale_2"], 1 / 448)


FAULT = Fault("packed-weights", f"{EXPERT}.down_proj.weight", "scales", break_, alone=False)
