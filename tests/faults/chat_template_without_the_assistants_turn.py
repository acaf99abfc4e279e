"""The chat template opens no turn of the assistant: the answer has no role."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    file = directory / "chat_template.json"
    file.write_text(file.read_text().replace("assistant", "model"))
    edit_json(directory, "tokenizer_config.json", lambda content: content.pop("chat_template", None))


FAULT = Fault("chat-template", "chat_template.json", "companions", break_)
