"""Two experts of a text model are exchanged."""

from pathlib import Path

from _checkpoint_edit import Fault, exchange


def break_(directory: Path) -> None:
    exchange(directory, "model.layers.1.mlp.experts.0", "model.layers.1.mlp.experts.2")


FAULT = Fault("packed-weights", "model.layers.1.mlp.experts.", "packing", break_, base="qwen3-moe", alone=False)
