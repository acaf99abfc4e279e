"""No tokenizer beside the weights."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        (directory / name).unlink()


FAULT = Fault("tokenizer", "tokenizer.json", "companions", break_)
