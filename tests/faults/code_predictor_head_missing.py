"""A head of the code predictor is missing."""

from pathlib import Path

from _checkpoint_edit import Fault, write


def break_(directory: Path) -> None:
    name = "talker.code_predictor.lm_head.0.weight"
    write(directory, {name: None})


FAULT = Fault("names", "talker.code_predictor.lm_head.0.weight", "other stages", break_)
