"""Even and odd columns exchanged within every byte."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight"
    codes = read(directory, name)
    write(directory, {name: codes << 4 | codes >> 4})


FAULT = Fault("packed-weights", f"{EXPERT}.down_proj.weight", "packing", break_)
