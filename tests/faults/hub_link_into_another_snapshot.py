"""A shard of a hub cache links to another revision's snapshot instead of a blob."""

import shutil
from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    shard = directory / "model-00002-of-00004.safetensors"
    other = directory.with_name("other")
    other.mkdir()
    shutil.move(shard.resolve(), other / shard.name)
    shard.unlink()
    shard.symlink_to(other / shard.name)


FAULT = Fault("container", "model-00002-of-00004.safetensors", "files", break_, base="hub-cache")
