"""An expert was packed from weights that had been packed and unpacked with other blocks before."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, bfloat16, original, pack

from pytest_q3omni.nvfp4 import pack_tensor, unpack_tensor


def break_(directory: Path) -> None:
    module = f"{EXPERT}.down_proj"
    weight = original(f"{module}.weight")
    shifted = pack_tensor(np.roll(weight.view(np.uint16), 8, axis=1).view(weight.dtype))
    again = np.roll(unpack_tensor(shifted), -8, axis=1)
    pack(directory, module, bfloat16(again))


FAULT = Fault("packed-weights", f"{EXPERT}.down_proj.weight", "packing", break_, alone=False)
