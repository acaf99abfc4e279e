"""One expert has another input scale where the layer shares it."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, scaled


def break_(directory: Path) -> None:
    scaled(directory, [f"{EXPERT}.down_proj.input_scale"], 100)


FAULT = Fault("shared-input-scales", f"{EXPERT}.down_proj.input_scale", "scales", break_)
