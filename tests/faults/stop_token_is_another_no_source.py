"""Generation stops where a turn begins, and not where it ends."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "generation_config.json", lambda content: content.update(eos_token_id=430))


FAULT = Fault("companions", "generation_config.json", "companions", break_, given=())
