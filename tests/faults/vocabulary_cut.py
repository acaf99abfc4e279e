"""lm_head lost its last rows: a tokenizer trimmed after the fact."""

from pathlib import Path

from _checkpoint_edit import Fault, read, write


def break_(directory: Path) -> None:
    write(directory, {"thinker.lm_head.weight": read(directory, "thinker.lm_head.weight")[:-16]})


FAULT = Fault("shapes", "thinker.lm_head.weight", "other stages", break_)
