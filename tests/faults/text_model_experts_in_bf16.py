"""The experts of one layer of a text model are BF16, under a plain NVFP4 declaration."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import Fault, bfloat16, read, write

from pytest_q3omni.omni.checkpoint import scan


def break_(directory: Path) -> None:
    names = [name for name in scan(directory).entries if name.startswith("model.layers.1.mlp.experts.")]
    weights = {
        name: bfloat16(np.full((2 * read(directory, name).shape[1], 4), 0.1)) for name in names if name.endswith("x")
    }
    shapes = {name: read(directory, name).shape for name in names if name.endswith(".weight")}
    scales = [name for name in names if not name.endswith(".weight")]
    plain = {name: bfloat16(np.full((out, 2 * half), 0.1)) for name, (out, half) in shapes.items()}
    write(directory, {**plain, **weights, **dict.fromkeys(scales)})


FAULT = Fault("declared-storage", "model.layers.1.mlp.experts", "silent non-quantization", break_, base="qwen3-moe")
