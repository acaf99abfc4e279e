"""Sampling has a negative temperature."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "generation_config.json", lambda content: content.update(do_sample=False, temperature=-1.0))


FAULT = Fault("companions", "generation_config.json", "companions", break_)
