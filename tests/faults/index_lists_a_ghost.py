"""The index lists a tensor that no shard has."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    def add(index: dict) -> None:
        index["weight_map"]["thinker.model.layers.7.input_layernorm.weight"] = min(index["weight_map"].values())

    edit_json(directory, "model.safetensors.index.json", add)


FAULT = Fault("index", "thinker.model.layers.7.input_layernorm.weight", "files", break_, base="sharded")
