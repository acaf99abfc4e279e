"""One file with everything lies beside the shards: every tensor is there twice."""

from pathlib import Path

from _checkpoint_edit import Fault, write_file

from pytest_q3omni.omni.checkpoint import scan


def break_(directory: Path) -> None:
    checkpoint = scan(directory)
    write_file(directory / "consolidated.safetensors", {name: checkpoint.array(name) for name in checkpoint.entries})


FAULT = Fault("container", "consolidated.safetensors", "files", break_, base="sharded")
