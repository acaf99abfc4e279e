"""Fake-quantized weights in BF16 with their amax beside them, declared as NVFP4."""

import shutil
from pathlib import Path

import numpy as np
from _checkpoint_edit import EXPERT, Fault, write

from pytest_q3omni.omni.tiny import checkpoint_path


def break_(directory: Path) -> None:
    shutil.copy(checkpoint_path() / "model.safetensors", directory / "model.safetensors")
    write(directory, {f"{EXPERT}.gate_proj.weight_quantizer._amax": np.array(1.0, np.float32)})


FAULT = Fault("quantized-at-all", "model.safetensors", "silent non-quantization", break_)
