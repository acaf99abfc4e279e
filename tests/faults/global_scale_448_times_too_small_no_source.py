"""A global scale is divided by 448 once more; without the source only the other layers tell."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, scaled


def break_(directory: Path) -> None:
    scaled(directory, [f"{EXPERT}.down_proj.weight_scale_2"], 1 / 448)


FAULT = Fault("global-scales", f"{EXPERT}.down_proj.weight_scale_2", "scales", break_, given=(), severity="warning")
