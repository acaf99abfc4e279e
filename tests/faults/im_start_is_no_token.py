"""`<|im_start|>` left the vocabulary and becomes ten tokens."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    def drop(content: dict) -> None:
        content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] != "<|im_start|>"]
        content["model"]["vocab"].pop("<|im_start|>", None)

    def drop_decoder(content: dict) -> None:
        decoder = content["added_tokens_decoder"]
        content["added_tokens_decoder"] = {
            key: token for key, token in decoder.items() if token["content"] != "<|im_start|>"
        }

    edit_json(directory, "tokenizer.json", drop)
    edit_json(directory, "tokenizer_config.json", drop_decoder)


FAULT = Fault("tokenizer", "tokenizer", "companions", break_)
