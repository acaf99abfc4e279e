"""lm_head is missing: a writer that took it for tied."""

from pathlib import Path

from _checkpoint_edit import Fault, write


def break_(directory: Path) -> None:
    write(directory, {"thinker.lm_head.weight": None})


FAULT = Fault("names", "thinker.lm_head.weight", "other stages", break_)
