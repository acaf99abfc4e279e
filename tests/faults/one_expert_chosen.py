"""A token goes to one expert instead of two."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(
        directory, "config.json", lambda config: config["thinker_config"]["text_config"].update(num_experts_per_tok=1)
    )


FAULT = Fault(
    "config-fields", "config.json.thinker_config.text_config.num_experts_per_tok", "configuration", break_, alone=False
)
