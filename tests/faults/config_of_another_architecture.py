"""The config of a text-only model."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "config.json", lambda config: config.update(model_type="qwen3_moe"))


FAULT = Fault("model-config", "config.json", "configuration", break_, given=())
