"""One expert is stored twice, and another not at all; without the source the copy tells."""

from pathlib import Path

from _checkpoint_edit import EXPERT, LAYER, Fault, module_tensors, write


def break_(directory: Path) -> None:
    stored = module_tensors(directory, f"{LAYER}.mlp.experts.2")
    write(directory, {f"{EXPERT}.{name}": values for name, values in stored.items()})


FAULT = Fault("weight-variety", f"{EXPERT}.", "packing", break_, given=())
