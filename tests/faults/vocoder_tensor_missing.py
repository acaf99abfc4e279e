"""A tensor of the vocoder is missing."""

from pathlib import Path

from _checkpoint_edit import Fault, write


def break_(directory: Path) -> None:
    name = "code2wav.pre_transformer.norm.weight"
    write(directory, {name: None})


FAULT = Fault("names", "code2wav.pre_transformer.norm.weight", "other stages", break_)
