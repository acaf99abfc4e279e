"""The largest image is a hundred times larger: 52 GiB for one picture."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(
        directory, "preprocessor_config.json", lambda content: content.update(max_pixels=100 * content["max_pixels"])
    )


FAULT = Fault("companions", "preprocessor_config.json", "companions", break_, alone=False)
