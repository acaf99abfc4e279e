"""A shard of a hub cache links into the blobs of another repository."""

import shutil
from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    shard = directory / "model-00002-of-00004.safetensors"
    blobs = directory.parent.parent.with_name("models--other--name") / "blobs"
    blobs.mkdir(parents=True)
    shutil.move(shard.resolve(), blobs / "hash0")
    shard.unlink()
    shard.symlink_to(blobs / "hash0")


FAULT = Fault("container", "model-00002-of-00004.safetensors", "files", break_, base="hub-cache")
