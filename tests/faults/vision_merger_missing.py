"""A weight of the vision merger is missing."""

from pathlib import Path

from _checkpoint_edit import Fault, write


def break_(directory: Path) -> None:
    name = "thinker.visual.merger.mlp.0.weight"
    write(directory, {name: None})


FAULT = Fault("names", "thinker.visual.merger.mlp.0.weight", "other stages", break_)
