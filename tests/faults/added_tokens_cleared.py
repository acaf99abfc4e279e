"""tokenizer.json has no added tokens; tokenizer_config.json still lists them."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "tokenizer.json", lambda content: content["added_tokens"].clear())


FAULT = Fault("tokenizer", "tokenizer.json", "companions", break_)
