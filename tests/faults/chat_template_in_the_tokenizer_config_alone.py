"""chat_template.json is gone; tokenizer_config.json has a template, which the processor does not ask."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    (directory / "chat_template.json").unlink()


FAULT = Fault("chat-template", "chat_template.json", "companions", break_)
