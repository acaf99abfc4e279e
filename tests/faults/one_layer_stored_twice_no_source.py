"""The packed matrices of one layer are stored as two layers; models are made of copies, too, so a warning."""

from pathlib import Path

from _checkpoint_edit import LAYER, OTHER_LAYER, Fault, module_tensors, write


def break_(directory: Path) -> None:
    for part in ("mlp.experts", "self_attn"):
        stored = module_tensors(directory, f"{LAYER}.{part}")
        write(directory, {f"{OTHER_LAYER}.{part}.{name}": values for name, values in stored.items()})


FAULT = Fault("weight-variety", OTHER_LAYER, "packing", break_, given=(), severity="warning")
