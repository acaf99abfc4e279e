"""Two rows of a router are exchanged: tokens go to the wrong experts."""

from pathlib import Path

from _checkpoint_edit import LAYER, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{LAYER}.mlp.gate.weight"
    values = read(directory, name)
    values[[2, 5]] = values[[5, 2]]
    write(directory, {name: values})


FAULT = Fault("kept-tensors", f"{LAYER}.mlp.gate.weight", "other stages", break_)
