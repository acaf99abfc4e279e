"""config.json says that the model computes in FP8."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "config.json", lambda config: config.update(dtype="float8_e4m3fn"))


FAULT = Fault("dtypes", "config.json.dtype", "configuration", break_)
