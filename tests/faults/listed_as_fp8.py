"""quantized_layers says FP8 of packed experts."""

from pathlib import Path

from _checkpoint_edit import LAYER, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(
        directory, lambda block: block["quantized_layers"].update({f"{LAYER}.mlp.experts": {"quant_algo": "FP8"}})
    )


FAULT = Fault("declared-storage", f"{LAYER}.mlp.experts.", "configuration", break_, base="nvfp4-default")
