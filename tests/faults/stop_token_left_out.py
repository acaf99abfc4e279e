"""generation_config.json has no eos_token_id any more: generation does not stop."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "generation_config.json", lambda content: content.pop("eos_token_id"))


FAULT = Fault("companions", "generation_config.json", "companions", break_, alone=False)
