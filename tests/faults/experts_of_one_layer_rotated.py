"""Every expert of a layer is its neighbour: the router sends tokens to the wrong one."""

from pathlib import Path

from _checkpoint_edit import LAYER, Fault, module_tensors, write


def break_(directory: Path) -> None:
    experts = [f"{LAYER}.mlp.experts.{number}" for number in range(8)]
    stored = [module_tensors(directory, expert) for expert in experts]
    moved = zip(experts, stored[1:] + stored[:1], strict=True)
    write(directory, {f"{expert}.{name}": values for expert, tensors in moved for name, values in tensors.items()})


FAULT = Fault("packed-weights", f"{LAYER}.mlp.experts.", "packing", break_, alone=False)
