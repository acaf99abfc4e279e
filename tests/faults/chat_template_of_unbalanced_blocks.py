"""A block of the chat template is never closed."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    def cut(content: dict) -> None:
        content["chat_template"] = "{%- if messages -%}" + content["chat_template"]

    for file in ("chat_template.json", "tokenizer_config.json"):
        edit_json(directory, file, cut)


FAULT = Fault("chat-template", "chat_template.json", "companions", break_, given=())
