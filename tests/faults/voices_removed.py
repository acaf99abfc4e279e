"""The talker knows no voice any more."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "config.json", lambda config: config["talker_config"].update(speaker_id={}))


FAULT = Fault("config-fields", "talker_config.speaker_id", "configuration", break_, alone=False)
