"""A shard that the index names was not downloaded."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    sorted(directory.glob("model-*.safetensors"))[1].unlink()


FAULT = Fault("container", "-of-", "files", break_, base="sharded")
