"""A shard is a git-lfs pointer: cloned without git-lfs."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 1000000\n"
    (directory / "model-00002-of-00004.safetensors").write_text(text)


FAULT = Fault("container", "model-00002-of-00004.safetensors", "files", break_, base="sharded")
