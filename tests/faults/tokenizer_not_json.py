"""tokenizer.json is cut short."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    file = directory / "tokenizer.json"
    file.write_bytes(file.read_bytes()[:1000])


FAULT = Fault("tokenizer", "tokenizer.json", "companions", break_)
