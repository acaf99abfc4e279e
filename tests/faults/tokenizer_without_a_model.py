"""tokenizer.json is a JSON object and no tokenizer."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    (directory / "tokenizer.json").write_text('{"version": "1.0"}')


FAULT = Fault("tokenizer", "tokenizer.json", "companions", break_)
