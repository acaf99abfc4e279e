"""A layer that a config group names as FP8 is BF16."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, Fault, original, write


def break_(directory: Path) -> None:
    module = f"{ATTENTION}.o_proj"
    write(directory, {f"{module}.weight": original(f"{module}.weight"), f"{module}.weight_scale": None})


FAULT = Fault(
    "declared-storage", f"{ATTENTION}.o_proj.weight", "silent non-quantization", break_, base="ct-mixed-dynamic"
)
