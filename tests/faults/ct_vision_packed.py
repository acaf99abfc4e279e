"""The vision tower is packed in compressed-tensors' layout, and not ignored."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import Fault, edit_quantization, original, write

from pytest_q3omni.nvfp4 import pack_tensor
from pytest_q3omni.omni.checkpoint import scan

VISUAL = ("thinker.visual.blocks.0.mlp.linear_fc1.weight", "thinker.visual.blocks.0.mlp.linear_fc2.weight")


def break_(directory: Path) -> None:
    modules = [name.removesuffix(".weight") for name in scan(directory).entries if name.startswith(VISUAL)]
    modules = [module for module in modules if original(f"{module}.weight").ndim == 2 and "embed" not in module]
    changes = {}
    for module in modules:
        packed = pack_tensor(original(f"{module}.weight"))
        changes[f"{module}.weight"] = None
        changes[f"{module}.weight_packed"] = packed.codes
        changes[f"{module}.weight_scale"] = packed.block_scale
        changes[f"{module}.weight_global_scale"] = np.array([1 / packed.global_scale], np.float32)
    write(directory, changes)
    edit_quantization(directory, lambda block: block.update(ignore=[e for e in block["ignore"] if e not in modules]))


FAULT = Fault("stage-policy", "thinker.visual.", "other stages", break_, base="ct-w4a16")
