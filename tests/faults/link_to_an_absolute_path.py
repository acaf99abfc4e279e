"""A shard is a link to a file of the system."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    shard = directory / "model-00002-of-00004.safetensors"
    shard.unlink()
    shard.symlink_to("/etc/passwd")


FAULT = Fault("container", "model-00002-of-00004.safetensors", "files", break_, base="sharded")
