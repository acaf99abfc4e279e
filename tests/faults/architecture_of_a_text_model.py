"""architectures names Qwen3MoeForCausalLM."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "config.json", lambda config: config.update(architectures=["Qwen3MoeForCausalLM"]))


FAULT = Fault("config-fields", "config.json.architectures", "configuration", break_, alone=False)
