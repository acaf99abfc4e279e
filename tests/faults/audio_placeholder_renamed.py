"""tokenizer.json calls the audio placeholder otherwise."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    def rename(content: dict) -> None:
        for token in content["added_tokens"]:
            if token["content"] == "<|audio_pad|>":
                token["content"] = "<|AUDIO|>"

    edit_json(directory, "tokenizer.json", rename)


FAULT = Fault("tokenizer", "tokenizer", "companions", break_)
