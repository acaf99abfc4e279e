"""tokenizer_config.json is a link to a file elsewhere on the machine, whose contents a report would show."""

import shutil
from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    outside = directory.with_name("elsewhere.json")
    shutil.move(directory / "tokenizer_config.json", outside)
    (directory / "tokenizer_config.json").symlink_to(outside)


FAULT = Fault("container", "tokenizer_config.json", "files", break_)
