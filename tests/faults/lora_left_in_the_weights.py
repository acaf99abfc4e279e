"""Adapters of a fine-tune were saved beside the weights, and never merged."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import ATTENTION, Fault, bfloat16, write


def break_(directory: Path) -> None:
    names = [f"{ATTENTION}.q_proj.lora_{part}.weight" for part in ("A", "B")]
    write(directory, {name: bfloat16(np.ones((8, 128))) for name in names})


FAULT = Fault("names", f"{ATTENTION}.q_proj.lora_", "other stages", break_)
