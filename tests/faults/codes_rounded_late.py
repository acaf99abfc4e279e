"""Every code is rounded up from 0.6 of the way between two values on, not from half: errors of 1.2 times the bound.

A whole writer's habit, so no tensor is what packing gives, and only the bound itself can tell.
"""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Array, Fault, original, read, write

from pytest_q3omni.nvfp4.format import E2M1_VALUES
from pytest_q3omni.omni.checkpoint import scan

VALUES = np.array(E2M1_VALUES, np.float32)


def break_(directory: Path) -> None:
    modules = [name.removesuffix(".weight_scale") for name in scan(directory).entries if name.endswith(".weight_scale")]
    write(directory, {f"{module}.weight": codes(directory, module) for module in modules})


def codes(directory: Path, module: str) -> Array:
    weight = original(f"{module}.weight").astype(np.float32)
    steps = read(directory, f"{module}.weight_scale").astype(np.float32) * read(directory, f"{module}.weight_scale_2")
    bounds = VALUES[:-1] + np.float32(0.6) * np.diff(VALUES)
    found = np.searchsorted(bounds, np.abs(weight) / np.repeat(steps, 16, axis=1)) | 8 * (weight < 0)
    packed: Array = (found[:, ::2] | found[:, 1::2] << 4).astype(np.uint8)
    return packed


FAULT = Fault("packed-weights", f"{EXPERT}.down_proj.weight", "packing", break_, base="nvfp4-mlp-weight-only")
