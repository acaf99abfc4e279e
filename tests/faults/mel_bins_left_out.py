"""preprocessor_config.json does not say how many mel bins: the class has 80, the audio tower takes 128."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "preprocessor_config.json", lambda content: content.pop("feature_size"))


FAULT = Fault("companions", "preprocessor_config.json", "companions", break_)
