"""Eight blocks are overwritten with 0xff, as of an erased flash page, and no source tells."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, read, write

CODES = f"{EXPERT}.gate_proj.weight"


def break_(directory: Path) -> None:
    codes = read(directory, CODES)
    codes.reshape(-1)[128:192] = 0xFF
    write(directory, {CODES: codes})


FAULT = Fault("code-patterns", CODES, "packing", break_, given=())
