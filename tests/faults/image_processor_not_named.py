"""preprocessor_config.json names a feature extractor alone: transformers finds no image processor."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "preprocessor_config.json", lambda content: content.pop("image_processor_type"))


FAULT = Fault("companions", "preprocessor_config.json", "companions", break_)
