"""The router is packed, and the config says nothing of it."""

from pathlib import Path

from _checkpoint_edit import LAYER, Fault, edit_quantization, original, pack


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block["ignore"].remove(f"{LAYER}.mlp.gate"))
    pack(directory, f"{LAYER}.mlp.gate", original(f"{LAYER}.mlp.gate.weight"))


FAULT = Fault("declared-storage", f"{LAYER}.mlp.gate.weight", "silent non-quantization", break_)
