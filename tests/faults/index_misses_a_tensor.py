"""A tensor is in a shard and not in the index: transformers does not load it, vLLM does."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(
        directory, "model.safetensors.index.json", lambda index: index["weight_map"].pop("thinker.lm_head.weight")
    )


FAULT = Fault("index", "thinker.lm_head.weight", "files", break_, base="sharded")
