"""A layer of the audio tower went through FP8 and back: BF16 that is not."""

from pathlib import Path

import ml_dtypes
import numpy as np
from _checkpoint_edit import Fault, bfloat16, read, write


def break_(directory: Path) -> None:
    name = "thinker.audio_tower.layers.0.fc1.weight"
    write(directory, {name: bfloat16(read(directory, name).astype(ml_dtypes.float8_e4m3fn).astype(np.float32))})


FAULT = Fault("kept-tensors", "thinker.audio_tower.layers.0.fc1.weight", "other stages", break_, alone=False)
