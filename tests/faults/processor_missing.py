"""No processor config: images and audio cannot be read."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    (directory / "preprocessor_config.json").unlink()


FAULT = Fault("companions", "preprocessor_config.json", "companions", break_)
