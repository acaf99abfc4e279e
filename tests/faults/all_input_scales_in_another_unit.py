"""Every input scale is amax / 6: the factor 448 was forgotten."""

from pathlib import Path

from _checkpoint_edit import Fault, scaled

from pytest_q3omni.omni.checkpoint import scan


def break_(directory: Path) -> None:
    scaled(directory, [name for name in scan(directory).entries if name.endswith(".input_scale")], 448)


FAULT = Fault("input-scale-range", ".input_scale", "scales", break_, given=("source",))
