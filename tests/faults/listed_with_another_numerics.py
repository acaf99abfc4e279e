"""quantized_layers says weight-only of one of q, k and v."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(
        directory,
        lambda block: block["quantized_layers"].update({f"{ATTENTION}.q_proj": {"quant_algo": "W4A16_NVFP4"}}),
    )


FAULT = Fault("fused-groups", f"{ATTENTION}.", "configuration", break_, base="nvfp4-default")
