"""Scales without the codes they scale."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, write


def break_(directory: Path) -> None:
    write(directory, {f"{EXPERT}.down_proj.weight": None})


FAULT = Fault("names", f"{EXPERT}.down_proj.weight", "other stages", break_)
