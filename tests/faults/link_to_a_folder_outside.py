"""A link leads to a folder elsewhere on the machine."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    outside = directory.parent.with_name("a-folder-elsewhere")
    outside.mkdir(exist_ok=True)
    (directory / "assets").symlink_to(outside)


FAULT = Fault("container", "assets", "files", break_)
