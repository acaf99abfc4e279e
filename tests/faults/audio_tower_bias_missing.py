"""A bias of the audio tower is missing."""

from pathlib import Path

from _checkpoint_edit import Fault, write


def break_(directory: Path) -> None:
    name = "thinker.audio_tower.layers.0.fc1.bias"
    write(directory, {name: None})


FAULT = Fault("names", "thinker.audio_tower.layers.0.fc1.bias", "other stages", break_)
