"""All global scales are amax / 6: another convention throughout, so none differs from the others."""

from pathlib import Path

from _checkpoint_edit import Fault, scaled

from pytest_q3omni.omni.checkpoint import scan


def break_(directory: Path) -> None:
    scaled(directory, [name for name in scan(directory).entries if name.endswith(".weight_scale_2")], 448)


FAULT = Fault("global-scales", ".weight_scale_2", "scales", break_)
