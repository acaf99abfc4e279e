"""Half of a shard is from another download: the header fits, and its last tensors are zeros."""

from pathlib import Path

from _checkpoint_edit import Fault


def break_(directory: Path) -> None:
    file = directory / "model.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-20_000:] = bytes(20_000)
    file.write_bytes(raw)


FAULT = Fault("packed-weights", "thinker.model.layers", "files", break_, alone=False)
