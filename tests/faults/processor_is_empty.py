"""preprocessor_config.json is an object without a field: every value is its class's default."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    (directory / "preprocessor_config.json").write_text("{}")


FAULT = Fault("companions", "preprocessor_config.json", "companions", break_)
