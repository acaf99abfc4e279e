"""The input scale of q/k/v is 100 times too large, and no record is at hand."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, Fault, scaled


def break_(directory: Path) -> None:
    scaled(directory, [f"{ATTENTION}.{name}_proj.input_scale" for name in "qkv"], 100)


FAULT = Fault("input-scale-range", f"{ATTENTION}.q_proj.input_scale", "scales", break_, given=("source",))
