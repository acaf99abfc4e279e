"""The head of the talker is rounded to FP8 and back."""

from pathlib import Path

import ml_dtypes
import numpy as np
from _checkpoint_edit import Fault, bfloat16, read, write


def break_(directory: Path) -> None:
    name = "talker.codec_head.weight"
    write(directory, {name: bfloat16(read(directory, name).astype(ml_dtypes.float8_e4m3fn).astype(np.float32))})


FAULT = Fault("kept-tensors", "talker.codec_head.weight", "other stages", break_, alone=False)
