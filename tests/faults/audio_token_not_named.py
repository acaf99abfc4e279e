"""tokenizer_config.json does not say which token stands for sound: the processor cannot be made."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    def drop(content: dict) -> None:
        content.pop("audio_token")
        content["extra_special_tokens"].pop("audio_token")

    edit_json(directory, "tokenizer_config.json", drop)


FAULT = Fault("tokenizer", "tokenizer_config.json", "companions", break_)
