"""q and k are packed, v is not, and the config says so: engines fuse the three."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, Fault, edit_quantization, unpack


def break_(directory: Path) -> None:
    unpack(directory, f"{ATTENTION}.v_proj")
    edit_quantization(directory, lambda block: block["quantized_layers"].pop(f"{ATTENTION}.v_proj"))


FAULT = Fault("fused-groups", f"{ATTENTION}.v_proj.weight", "configuration", break_)
