"""A token is to go to 16 of 8 experts; no source is needed to see it."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(
        directory, "config.json", lambda config: config["thinker_config"]["text_config"].update(num_experts_per_tok=16)
    )


FAULT = Fault(
    "model-config", "config.json.thinker_config.text_config.num_experts_per_tok", "configuration", break_, given=()
)
