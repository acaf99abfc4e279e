"""config.json says float16 over BF16 tensors: engines compute in it."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "config.json", lambda config: config.update(dtype="float16"))


FAULT = Fault("dtypes", "config.json.dtype", "configuration", break_, severity="warning")
