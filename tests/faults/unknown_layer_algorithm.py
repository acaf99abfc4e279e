"""One layer is declared in an algorithm that vLLM does not know."""

from pathlib import Path

from _checkpoint_edit import ATTENTION, Fault, edit_quantization


def break_(directory: Path) -> None:
    layer = f"{ATTENTION}.o_proj"
    edit_quantization(directory, lambda block: block["quantized_layers"].update({layer: {"quant_algo": "NVFP4_AWQ"}}))


FAULT = Fault("declaration", "o_proj", "configuration", break_)
