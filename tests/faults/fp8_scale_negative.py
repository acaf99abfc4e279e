"""An FP8 weight scale is negative."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{ATTENTION}.q_proj.weight_scale"
    write(directory, {name: -read(directory, name)})


FAULT = Fault("fp8-scales", f"{ATTENTION}.q_proj.weight_scale", "scales", break_, base="mixed")
