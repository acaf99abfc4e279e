"""enable_audio_output is false, and talker and vocoder are stored."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "config.json", lambda config: config.update(enable_audio_output=False))


FAULT = Fault("names", "code2wav", "configuration", break_)
