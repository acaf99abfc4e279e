"""o_proj of two layers are exchanged."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, LAYER, OTHER_LAYER, Fault, module_tensors, write


def break_(directory: Path) -> None:
    first, second = (module_tensors(directory, f"{layer}.self_attn.o_proj") for layer in (LAYER, OTHER_LAYER))
    for layer, tensors in ((LAYER, second), (OTHER_LAYER, first)):
        write(
            directory, {f"{layer}.self_attn.o_proj.{name}": tensors[name] for name in tensors if name != "input_scale"}
        )


FAULT = Fault("packed-weights", f"{ATTENTION}.o_proj.weight", "packing", break_)
