"""chat_template.json is an object that holds no template."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    (directory / "chat_template.json").write_text('{"template": ""}')


FAULT = Fault("chat-template", "chat_template.json", "companions", break_)
