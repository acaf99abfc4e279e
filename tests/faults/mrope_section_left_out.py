"""config.json does not say how positions are shared between time, height and width."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(
        directory,
        "config.json",
        lambda config: config["thinker_config"]["text_config"]["rope_parameters"].pop("mrope_section"),
    )


FAULT = Fault("config-fields", "rope_parameters.mrope_section", "configuration", break_, alone=False)
