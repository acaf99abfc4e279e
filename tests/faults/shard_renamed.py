"""A shard was renamed, and the index not."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    (directory / "model-00002-of-00004.safetensors").rename(directory / "part-2.safetensors")


FAULT = Fault("container", "model-00002-of-00004.safetensors", "files", break_, base="sharded")
