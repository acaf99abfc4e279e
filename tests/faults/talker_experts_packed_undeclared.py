"""The talker's experts are packed, and the config says nothing of it."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, original, pack


def break_(directory: Path) -> None:
    module = "talker.model.layers.0.mlp.experts.0.down_proj"
    pack(directory, module, original(f"{module}.weight"), input_scale=0.001)


FAULT = Fault("ignore-list", f"{CONFIG}.ignore", "other stages", break_)
