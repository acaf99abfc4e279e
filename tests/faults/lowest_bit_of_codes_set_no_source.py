"""The lowest bit of every code of one tensor is set, and no source tells."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, read, write

CODES = f"{EXPERT}.up_proj.weight"


def break_(directory: Path) -> None:
    write(directory, {CODES: read(directory, CODES) | 0x11})


FAULT = Fault("code-patterns", CODES, "packing", break_, given=())
