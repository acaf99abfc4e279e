"""A global scale rounded to BF16."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, bfloat16, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight_scale_2"
    write(directory, {name: bfloat16(read(directory, name))})


FAULT = Fault("dtypes", f"{EXPERT}.down_proj.weight_scale_2", "scales", break_)
