"""The codes of one block are zeros under a scale that is not, and no source tells."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, Fault, read, write

CODES = f"{ATTENTION}.k_proj.weight"


def break_(directory: Path) -> None:
    codes = read(directory, CODES)
    codes[3, 16:24] = 0
    write(directory, {CODES: codes})


FAULT = Fault("code-patterns", CODES, "packing", break_, given=())
