"""An input scale is BF16."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, Fault, bfloat16, read, write


def break_(directory: Path) -> None:
    name = f"{ATTENTION}.o_proj.input_scale"
    write(directory, {name: bfloat16(read(directory, name))})


FAULT = Fault("dtypes", f"{ATTENTION}.o_proj.input_scale", "scales", break_)
