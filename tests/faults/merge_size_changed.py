"""The image processor merges 1 x 1 patches, the vision tower 2 x 2: another number of tokens."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "preprocessor_config.json", lambda content: content.update(merge_size=1))


FAULT = Fault("companions", "preprocessor_config.json", "companions", break_)
