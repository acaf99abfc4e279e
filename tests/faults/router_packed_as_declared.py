"""The router is packed, and the config says so: no engine serves it."""

from pathlib import Path

from _checkpoint_edit import LAYER, Fault, original, pack


def break_(directory: Path) -> None:
    module = f"{LAYER}.mlp.gate"
    pack(directory, module, original(f"{module}.weight"), declare=True)


FAULT = Fault("stage-policy", f"{LAYER}.mlp.gate.weight", "other stages", break_)
