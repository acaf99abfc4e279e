"""A text model's ignore list forgets the routers."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(
        directory,
        "config.json",
        lambda config: config["quantization_config"].update(ignore=["lm_head", "model.embed_tokens"]),
    )


FAULT = Fault("declared-storage", "mlp.gate.weight", "configuration", break_, base="qwen3-moe")
