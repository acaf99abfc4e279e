"""A router is packed in compressed-tensors' layout, and not ignored."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import Fault, edit_quantization, original, write

from pytest_q3omni.nvfp4 import pack_tensor


def break_(directory: Path) -> None:
    name = "thinker.model.layers.0.mlp.gate"
    packed = pack_tensor(original(f"{name}.weight"))
    write(
        directory,
        {
            f"{name}.weight": None,
            f"{name}.weight_packed": packed.codes,
            f"{name}.weight_scale": packed.block_scale,
            f"{name}.weight_global_scale": np.array([1 / packed.global_scale], np.float32),
        },
    )
    edit_quantization(directory, lambda block: block["ignore"].remove(name))


FAULT = Fault("stage-policy", "thinker.model.layers.0.mlp.gate", "other stages", break_, base="ct-w4a16")
