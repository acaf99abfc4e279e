"""A text model's config has two layers, its weights have three."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "config.json", lambda config: config.update(num_hidden_layers=2))


FAULT = Fault("config-fields", "config.json.num_hidden_layers", "configuration", break_, base="qwen3-moe", alone=False)
