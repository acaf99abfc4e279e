"""tokenizer_config.json is nested deeper than any reader goes."""

from pathlib import Path
from typing import Any

from _checkpoint_edit import Fault, edit_json


def _deep() -> Any:
    value: Any = 0
    for _ in range(900):
        value = [value]
    return value


def break_(directory: Path) -> None:
    edit_json(directory, "tokenizer_config.json", lambda content: content.update(extra=_deep()))


FAULT = Fault("tokenizer", "tokenizer_config.json", "companions", break_)
