"""No tokenizer_config.json: the weights load, the processor does not."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    (directory / "tokenizer_config.json").unlink()


FAULT = Fault("companions", "tokenizer_config.json", "companions", break_)
