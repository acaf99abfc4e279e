"""The vision is packed, and the config says so: no engine serves it."""

from pathlib import Path

from _checkpoint_edit import Fault, original, pack


def break_(directory: Path) -> None:
    module = "thinker.visual.blocks.0.mlp.linear_fc1"
    pack(directory, module, original(f"{module}.weight"), declare=True)


FAULT = Fault("stage-policy", "thinker.visual.blocks.0.mlp.linear_fc1.weight", "other stages", break_)
