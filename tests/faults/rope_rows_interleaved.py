"""The rows of q are in the order of interleaved rotary embeddings, as GGUF has them."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, Array, Fault, read, write


def damaged(directory: Path, name: str) -> Array:
    codes = read(directory, name)
    return codes.reshape(4, 2, 16, -1).swapaxes(1, 2).reshape(codes.shape).copy()


def break_(directory: Path) -> None:
    name = f"{ATTENTION}.q_proj.weight"
    write(directory, {name: damaged(directory, name)})


FAULT = Fault("packed-weights", f"{ATTENTION}.q_proj.weight", "packing", break_, alone=False)
