"""Packed tensors, and no quantization_config."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "config.json", lambda config: config.pop("quantization_config"))


FAULT = Fault("declaration", CONFIG, "configuration", break_)
