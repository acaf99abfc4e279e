"""config.json does not say which hidden state the talker hears: the class's default is another layer."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "config.json", lambda config: config["talker_config"].pop("accept_hidden_layer"))


FAULT = Fault("config-fields", "talker_config.accept_hidden_layer", "configuration", break_, alone=False)
