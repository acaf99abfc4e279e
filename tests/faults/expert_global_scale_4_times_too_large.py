"""One expert's second projection is 4 times too large: accuracy and KL do not see it."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, scaled


def break_(directory: Path) -> None:
    scaled(directory, [f"{EXPERT}.down_proj.weight_scale_2"], 4)


FAULT = Fault("packed-weights", f"{EXPERT}.down_proj.weight", "packing", break_)
