"""The largest code of a single block is one lower than it was, and no source tells."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, Fault, read, write

CODES = f"{ATTENTION}.q_proj.weight"


def break_(directory: Path) -> None:
    codes = read(directory, CODES)
    block = codes[5, 8:16]
    for nibble in (0, 4):
        block[(block >> nibble & 7) == 7] -= 1 << nibble
    write(directory, {CODES: codes})


FAULT = Fault("code-patterns", CODES, "packing", break_, given=())
