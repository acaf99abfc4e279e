"""The index is cut short."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    file = directory / "model.safetensors.index.json"
    file.write_bytes(file.read_bytes()[:100])


FAULT = Fault("container", "model.safetensors.index.json", "files", break_, base="sharded")
