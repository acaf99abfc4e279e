"""One norm weight is not the original one."""

from pathlib import Path

from _checkpoint_edit import LAYER, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{LAYER}.input_layernorm.weight"
    values = read(directory, name)
    values[3] *= 2
    write(directory, {name: values})


FAULT = Fault("kept-tensors", f"{LAYER}.input_layernorm.weight", "other stages", break_)
