"""rms_norm_eps is 1; without the source its size tells."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "config.json", lambda config: config["thinker_config"]["text_config"].update(rms_norm_eps=1.0))


FAULT = Fault("model-config", "config.json.thinker_config.text_config.rms_norm_eps", "configuration", break_, given=())
