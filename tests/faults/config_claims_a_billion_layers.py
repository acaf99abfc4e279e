"""A number of layers that would fill the memory of whoever believes it."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(
        directory, "config.json", lambda config: config["thinker_config"]["text_config"].update(num_hidden_layers=10**9)
    )


FAULT = Fault("model-config", "config.json", "configuration", break_, given=())
