"""metadata.total_size is that of the BF16 original."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_json


def break_(directory: Path) -> None:
    edit_json(directory, "model.safetensors.index.json", lambda index: index["metadata"].update(total_size=3892242))


FAULT = Fault("index", "model.safetensors.index.json", "files", break_, base="sharded")
