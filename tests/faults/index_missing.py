"""Several shards and no index."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    (directory / "model.safetensors.index.json").unlink()


FAULT = Fault("index", "model.safetensors.index.json", "files", break_, base="sharded")
