"""The index maps a tensor to a number instead of a file."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json

NAME = "thinker.model.norm.weight"


def break_(directory: Path) -> None:
    edit_json(directory, "model.safetensors.index.json", lambda index: index["weight_map"].update({NAME: 7}))


FAULT = Fault("container", "model.safetensors.index.json", "files", break_, base="sharded")
