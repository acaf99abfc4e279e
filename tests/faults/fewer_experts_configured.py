"""config.json counts one expert less than there are."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "config.json", lambda config: config["thinker_config"]["text_config"].update(num_experts=7))


FAULT = Fault("config-fields", "num_experts", "configuration", break_)
