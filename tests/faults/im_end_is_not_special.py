"""`<|im_end|>` is an ordinary token: text that spells it out would end a turn."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    def change(content: dict) -> None:
        for token in content["added_tokens"]:
            token["special"] = token["special"] and token["content"] != "<|im_end|>"

    edit_json(directory, "tokenizer.json", change)


FAULT = Fault("tokenizer", "tokenizer.json", "companions", break_)
