"""The processor resamples to another rate than the audio tower was trained on."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "preprocessor_config.json", lambda content: content.update(sampling_rate=24000))


FAULT = Fault("companions", "preprocessor_config.json", "companions", break_, alone=False)
