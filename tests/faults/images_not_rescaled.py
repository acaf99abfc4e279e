"""A field that the original leaves to its default turns off the rescaling of images."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "preprocessor_config.json", lambda content: content.update(do_rescale=False))


FAULT = Fault("companions", "preprocessor_config.json", "companions", break_, alone=False)
