"""One expert was unpacked to float32: sixteen bits more than declared for each weight."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, original, write


def break_(directory: Path) -> None:
    module = f"{EXPERT}.down_proj"
    scales = [f"{module}.{suffix}" for suffix in ("weight_scale", "weight_scale_2", "input_scale")]
    write(directory, {f"{module}.weight": original(f"{module}.weight").astype(np.float32), **dict.fromkeys(scales)})


FAULT = Fault("declared-storage", f"{EXPERT}.down_proj.weight", "silent non-quantization", break_)
