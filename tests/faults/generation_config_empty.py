"""generation_config.json is an empty file."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    (directory / "generation_config.json").write_text("")


FAULT = Fault("companions", "generation_config.json", "companions", break_)
