"""preprocessor_config.json ends too early."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    file = directory / "preprocessor_config.json"
    file.write_bytes(file.read_bytes()[:-20])


FAULT = Fault("companions", "preprocessor_config.json", "companions", break_)
