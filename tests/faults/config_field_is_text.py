"""A number written as text."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(
        directory, "config.json", lambda config: config["thinker_config"]["text_config"].update(num_hidden_layers="2")
    )


FAULT = Fault("model-config", "thinker_config.text_config.num_hidden_layers", "configuration", break_, given=())
