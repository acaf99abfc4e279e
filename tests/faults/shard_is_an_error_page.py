"""The download saved an error page under the shard's name."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    shard = directory / "model-00002-of-00004.safetensors"
    shard.write_text("<!DOCTYPE html><html><body>401 Unauthorized</body></html>")


FAULT = Fault("container", "model-00002-of-00004.safetensors", "files", break_, base="sharded")
