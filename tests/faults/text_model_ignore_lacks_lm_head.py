"""A text model's ignore list forgets lm_head."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "config.json", lambda config: config["quantization_config"]["ignore"].remove("lm_head"))


FAULT = Fault("declared-storage", "lm_head.weight", "configuration", break_, base="qwen3-moe")
