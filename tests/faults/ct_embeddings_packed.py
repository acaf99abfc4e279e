"""The embeddings are packed: what llm-compressor's model_free_ptq does without an ignore entry."""

from pathlib import Path

import numpy as np
from _checkpoint_edit import Fault, original, write

from pytest_q3omni.nvfp4 import pack_tensor


def break_(directory: Path) -> None:
    name = "thinker.model.embed_tokens"
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


FAULT = Fault("names", "thinker.model.embed_tokens", "other stages", break_, base="ct-w4a16")
