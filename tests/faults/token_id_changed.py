"""im_start_token_id is another token: speech looks for turns in the wrong place."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "config.json", lambda config: config.update(im_start_token_id=7))


FAULT = Fault("config-fields", "im_start_token_id", "configuration", break_)
