"""generation_config.json was not copied: other stop tokens."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    (directory / "generation_config.json").unlink()


FAULT = Fault("companions", "generation_config.json", "companions", break_, alone=False)
