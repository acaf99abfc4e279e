"""The special tokens have other ids than config.json says."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    def change(content: dict) -> None:
        for token in content["added_tokens"]:
            token["id"] += 1

    edit_json(directory, "tokenizer.json", change)


FAULT = Fault("tokenizer", "tokenizer.json", "companions", break_)
