"""num_hidden_layers is -1."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(
        directory, "config.json", lambda config: config["thinker_config"]["text_config"].update(num_hidden_layers=-1)
    )


FAULT = Fault(
    "config-fields", "config.json.thinker_config.text_config.num_hidden_layers", "configuration", break_, alone=False
)
