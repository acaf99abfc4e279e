"""One expert's stored global scale is 4 times too large: its weights a quarter."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight_global_scale"
    write(directory, {name: 4 * read(directory, name)})


FAULT = Fault("packed-weights", f"{EXPERT}.down_proj.weight_packed", "packing", break_, base="ct-w4a4", alone=False)
