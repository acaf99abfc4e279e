"""An expert uses every second code only: three-bit weights in a four-bit format."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight"
    codes = read(directory, name)
    write(directory, {name: codes & 0xEE})


FAULT = Fault("packed-weights", f"{EXPERT}.down_proj.weight", "packing", break_, alone=False)
