"""All experts of a layer but one are packed, and the config says so."""

from pathlib import Path

from _checkpoint_edit import EXPERT, LAYER, Fault, edit_quantization, unpack


def break_(directory: Path) -> None:
    entry = {"quant_algo": "NVFP4", "group_size": 16}
    layers = {f"{LAYER}.mlp.experts.{expert}": entry for expert in range(8) if expert != 3}
    for projection in ("gate_proj", "up_proj", "down_proj"):
        unpack(directory, f"{EXPERT}.{projection}")

    def change(block: dict) -> None:
        block["quantized_layers"].pop(f"{LAYER}.mlp.experts")
        block["quantized_layers"].update(layers)

    edit_quantization(directory, change)


FAULT = Fault("fused-groups", f"{EXPERT}.", "configuration", break_)
