"""An AWQ scale that was not folded; vLLM does not know the name."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import ATTENTION, Fault, bfloat16, write


def break_(directory: Path) -> None:
    write(directory, {f"{ATTENTION}.q_proj.pre_quant_scale": bfloat16(np.ones(128))})


FAULT = Fault("names", f"{ATTENTION}.q_proj.pre_quant_scale", "scales", break_)
