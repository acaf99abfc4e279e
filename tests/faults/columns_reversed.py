"""Every row is packed from right to left."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.down_proj.weight"
    write(directory, {name: read(directory, name)[:, ::-1].copy()})


FAULT = Fault("packed-weights", f"{EXPERT}.down_proj.weight", "packing", break_, alone=False)
