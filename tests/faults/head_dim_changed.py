"""head_dim is half of what the weights have."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "config.json", lambda config: config["thinker_config"]["text_config"].update(head_dim=16))


FAULT = Fault("config-fields", "config.json.thinker_config.text_config.head_dim", "configuration", break_, alone=False)
