"""A module of compressed-tensors' layout has ModelOpt's names: vLLM finds none of its parameters."""

from pathlib import Path

from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    parts = {"weight_packed": "weight", "weight_global_scale": "weight_scale_2", "input_global_scale": "input_scale"}
    module = f"{EXPERT}.down_proj"
    renamed = {f"{module}.{new}": read(directory, f"{module}.{old}") for old, new in parts.items()}
    write(directory, {**renamed, **{f"{module}.{old}": None for old in parts}})


FAULT = Fault("declared-storage", f"{EXPERT}.down_proj", "configuration", break_, base="ct-w4a4")
