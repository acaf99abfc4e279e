"""Two shards changed names: every tensor is in another file than the index says."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    first, second = (directory / f"model-0000{number}-of-00004.safetensors" for number in (1, 2))
    first.rename(directory / "moved")
    second.rename(first)
    (directory / "moved").rename(second)


FAULT = Fault("index", "thinker.", "files", break_, base="sharded")
