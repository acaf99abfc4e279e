"""The experts' activation is gelu."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(
        directory, "config.json", lambda config: config["thinker_config"]["text_config"].update(hidden_act="gelu")
    )


FAULT = Fault(
    "config-fields", "config.json.thinker_config.text_config.hidden_act", "configuration", break_, alone=False
)
