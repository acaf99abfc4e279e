"""chat_template.json is cut short; tokenizer_config.json has a template of its own, which the processor ignores."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    file = directory / "chat_template.json"
    file.write_text(file.read_text()[:100])


FAULT = Fault("chat-template", "chat_template.json", "companions", break_)
