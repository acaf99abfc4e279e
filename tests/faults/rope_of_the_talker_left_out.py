"""config.json has no rope_parameters for the talker."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "config.json", lambda config: config["talker_config"]["text_config"].pop("rope_parameters"))


FAULT = Fault("config-fields", "talker_config.text_config.rope_parameters", "configuration", break_, alone=False)
