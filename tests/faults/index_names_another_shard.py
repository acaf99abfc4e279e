"""The index says that a tensor is in a shard where it is not."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    def move(index: dict) -> None:
        here = index["weight_map"]["thinker.model.norm.weight"]
        others = sorted(set(index["weight_map"].values()) - {here})
        index["weight_map"]["thinker.model.norm.weight"] = others[0]

    edit_json(directory, "model.safetensors.index.json", move)


FAULT = Fault("index", "thinker.model.norm.weight", "files", break_, base="sharded")
