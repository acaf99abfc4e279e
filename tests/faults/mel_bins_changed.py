"""The feature extractor makes another number of mel bins than the audio tower takes."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(
        directory, "preprocessor_config.json", lambda content: content.update(feature_size=content["feature_size"] + 16)
    )


FAULT = Fault("companions", "preprocessor_config.json", "companions", break_)
