"""tokenizer_config.json calls the turn's end otherwise than tokenizer.json does."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(
        directory,
        "tokenizer_config.json",
        lambda content: content["added_tokens_decoder"]["431"].update(content="<|end|>"),
    )


FAULT = Fault("tokenizer", "tokenizer_config.json", "companions", break_)
