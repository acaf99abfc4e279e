"""The chat template is empty in every place."""

import json
from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    (directory / "chat_template.json").write_text(json.dumps({"chat_template": ""}))
    edit_json(directory, "tokenizer_config.json", lambda content: content.pop("chat_template", None))


FAULT = Fault("chat-template", "chat_template.json", "companions", break_)
