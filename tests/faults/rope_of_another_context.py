"""rope is scaled for four times the context."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(
        directory,
        "config.json",
        lambda config: (
            config["thinker_config"]["text_config"]
            .setdefault("rope_parameters", {})
            .update(rope_type="yarn", factor=4.0)
        ),
    )


FAULT = Fault("config-fields", "rope_parameters", "configuration", break_, alone=False)
