"""A field that shapes depend on is missing."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "config.json", lambda config: config["thinker_config"]["text_config"].pop("hidden_size"))


FAULT = Fault("model-config", "thinker_config.text_config.hidden_size", "configuration", break_)
