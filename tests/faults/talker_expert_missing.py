"""A weight of an expert of the talker is missing."""

from pathlib import Path

from _checkpoint_edit import Fault, write


def break_(directory: Path) -> None:
    name = "talker.model.layers.0.mlp.experts.1.up_proj.weight"
    write(directory, {name: None})


FAULT = Fault("names", "talker.model.layers.0.mlp.experts.1.up_proj.weight", "other stages", break_)
