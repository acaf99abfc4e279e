"""config.json says another id for the audio placeholder than the tokenizer has."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "config.json", lambda content: content["thinker_config"].update(audio_token_id=7))


FAULT = Fault("config-fields", "config.json.thinker_config.audio_token_id", "companions", break_, alone=False)
