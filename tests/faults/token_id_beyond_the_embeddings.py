"""The tokenizer has a token that the embeddings have no row for."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(
        directory,
        "tokenizer.json",
        lambda content: content["added_tokens"].append(
            {**content["added_tokens"][-1], "id": 900_000, "content": "<|new|>"}
        ),
    )


FAULT = Fault("tokenizer", "tokenizer.json", "companions", break_)
