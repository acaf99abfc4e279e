"""quantization_config is not an object."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "config.json", lambda config: config.update(quantization_config=["modelopt"]))


FAULT = Fault("declaration", CONFIG, "configuration", break_)
