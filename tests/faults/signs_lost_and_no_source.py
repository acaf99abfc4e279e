"""A weight has lost its signs, and no source tells."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, read, write

CODES = f"{EXPERT}.down_proj.weight"


def break_(directory: Path) -> None:
    codes = read(directory, CODES)
    write(directory, {CODES: codes & 0x77})


FAULT = Fault("code-patterns", CODES, "packing", break_, given=())
