"""Images are normalised with another mean."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "preprocessor_config.json", lambda content: content.update(image_mean=[0.0, 0.0, 0.0]))


FAULT = Fault("companions", "preprocessor_config.json", "companions", break_, alone=False)
