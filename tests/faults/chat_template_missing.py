"""No chat template anywhere."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    (directory / "chat_template.json").unlink()
    edit_json(directory, "tokenizer_config.json", lambda content: content.pop("chat_template"))


FAULT = Fault("chat-template", "chat_template", "companions", break_)
