"""lm_head is packed, and the config says so: no engine serves it."""

from pathlib import Path

from _checkpoint_edit import Fault, original, pack


def break_(directory: Path) -> None:
    module = "thinker.lm_head"
    pack(directory, module, original(f"{module}.weight"), declare=True)


FAULT = Fault("stage-policy", "thinker.lm_head.weight", "other stages", break_)
