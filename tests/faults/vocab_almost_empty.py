"""vocab.json has one token left; tokenizer.json has them all."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    (directory / "vocab.json").write_text('{"!": 0}')


FAULT = Fault("tokenizer", "vocab.json", "companions", break_)
