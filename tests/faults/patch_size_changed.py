"""The image processor cuts patches of 14 pixels, the vision tower has 16."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(
        directory, "preprocessor_config.json", lambda content: content.update(patch_size=content["patch_size"] - 2)
    )


FAULT = Fault("companions", "preprocessor_config.json", "companions", break_)
