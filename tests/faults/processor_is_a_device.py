"""preprocessor_config.json is a link to a device without an end."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    file = directory / "preprocessor_config.json"
    file.unlink()
    file.symlink_to("/dev/zero")


FAULT = Fault("container", "preprocessor_config.json", "files", break_)
