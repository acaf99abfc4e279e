"""config.json counts one layer less than there are, and no source is at hand."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(
        directory, "config.json", lambda config: config["thinker_config"]["text_config"].update(num_hidden_layers=1)
    )


FAULT = Fault("names", "thinker.model.layers.1.", "configuration", break_, given=())
