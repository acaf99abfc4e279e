"""A shard is a link to a file elsewhere on the machine."""

import shutil
from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    outside = directory.with_name("outside.safetensors")
    shutil.move(directory / "model.safetensors", outside)
    (directory / "model.safetensors").symlink_to(outside)


FAULT = Fault("container", "model.safetensors", "files", break_)
