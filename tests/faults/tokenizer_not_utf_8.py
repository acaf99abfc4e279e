"""tokenizer.json is not UTF-8."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    file = directory / "tokenizer.json"
    file.write_bytes(file.read_bytes() + b"\xff\xfe")


FAULT = Fault("tokenizer", "tokenizer.json", "companions", break_)
