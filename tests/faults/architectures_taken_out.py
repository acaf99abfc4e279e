"""config.json names no architecture: vLLM finds no model."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "config.json", lambda config: config.pop("architectures"))


FAULT = Fault("engine-fields", "config.json.architectures", "configuration", break_)
