"""The nibbles of a text model's weight are swapped."""

from pathlib import Path

from _checkpoint_edit import Fault, read, write


def break_(directory: Path) -> None:
    name = "model.layers.0.self_attn.o_proj.weight"
    codes = read(directory, name)
    write(directory, {name: codes >> 4 | codes << 4})


FAULT = Fault(
    "packed-weights", "model.layers.0.self_attn.o_proj.weight", "packing", break_, base="qwen3-moe", alone=False
)
