"""An input scale is negative."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{ATTENTION}.o_proj.input_scale"
    write(directory, {name: -read(directory, name)})


FAULT = Fault("input-scales", f"{ATTENTION}.o_proj.input_scale", "scales", break_)
