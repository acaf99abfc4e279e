"""A thinker alone whose config announces speech."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "config.json", lambda config: config.update(enable_audio_output=True))


FAULT = Fault("names", "talker", "other stages", break_, base="thinker-only")
