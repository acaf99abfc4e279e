"""gate and up of an expert have global scales of their own: what llm-compressor's model_free_ptq writes."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, read, write


def break_(directory: Path) -> None:
    name = f"{EXPERT}.up_proj.weight_global_scale"
    write(directory, {name: (read(directory, name) * np.float32(1.11)).astype(np.float32)})


FAULT = Fault("shared-scales", f"{EXPERT}.up_proj.weight_global_scale", "scales", break_, base="ct-w4a16")
