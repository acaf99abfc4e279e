"""The routers are FP8, and declared so."""

from pathlib import Path

import ml_dtypes
import numpy as np
from _checkpoint_edit import Fault, edit_quantization, original, write


def break_(directory: Path) -> None:
    name = "thinker.model.layers.0.mlp.gate"
    weight = original(f"{name}.weight").astype(np.float32)
    scale = np.array(np.abs(weight).max() / 448, np.float32)
    codes = (weight / scale).astype(ml_dtypes.float8_e4m3fn)
    write(directory, {f"{name}.weight": codes, f"{name}.weight_scale": scale, f"{name}.input_scale": scale})
    edit_quantization(directory, lambda block: block["quantized_layers"].update({name: {"quant_algo": "FP8"}}))


FAULT = Fault("stage-policy", "thinker.model.layers.0.mlp.gate", "other stages", break_, base="mixed")
