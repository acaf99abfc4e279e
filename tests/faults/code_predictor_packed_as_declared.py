"""The code predictor is packed, and the config says so: no engine serves it."""

from pathlib import Path

from _checkpoint_edit import Fault, original, pack


def break_(directory: Path) -> None:
    module = "talker.code_predictor.model.layers.0.mlp.down_proj"
    pack(directory, module, original(f"{module}.weight"), declare=True)


FAULT = Fault("stage-policy", "talker.code_predictor.model.layers.0.mlp.down_proj.weight", "other stages", break_)
