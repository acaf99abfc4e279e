"""Another rope_theta: it loads, and long prompts are garbled."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    def change(config: dict) -> None:
        config["thinker_config"]["text_config"]["rope_parameters"]["rope_theta"] = 10000.0

    edit_json(directory, "config.json", change)


FAULT = Fault("config-fields", "rope_theta", "configuration", break_)
