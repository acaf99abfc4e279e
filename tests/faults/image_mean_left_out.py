"""Images are normalised with the class's mean, since preprocessor_config.json says none."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "preprocessor_config.json", lambda content: content.pop("image_mean"))


FAULT = Fault("companions", "preprocessor_config.json", "companions", break_, alone=False)
