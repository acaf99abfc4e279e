""" "user" is not one token any more: `generate` dies with an index error."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "tokenizer.json", lambda content: content["model"]["vocab"].pop("user"))
    edit_json(directory, "vocab.json", lambda content: content.pop("user"))


FAULT = Fault("tokenizer", "tokenizer.json", "companions", break_)
