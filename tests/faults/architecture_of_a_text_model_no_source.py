"""architectures names Qwen3MoeForCausalLM under the model type of Qwen3-Omni: engines go by it."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "config.json", lambda config: config.update(architectures=["Qwen3MoeForCausalLM"]))


FAULT = Fault("model-config", "config.json.architectures", "configuration", break_, given=())
