"""A compressed-tensors global scale is stored in BF16: engines copy it into float32 as other bits."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, bfloat16, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight_global_scale"
    write(directory, {name: bfloat16(read(directory, name))})


FAULT = Fault("dtypes", f"{EXPERT}.down_proj.weight_global_scale", "scales", break_, base="ct-w4a4")
