"""A quantized KV cache is declared, and no scale for it is stored."""

from pathlib import Path

from _checkpoint_edit import Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block.update(kv_cache_quant_algo="FP8"))


FAULT = Fault("names", "quantization_config", "configuration", break_, severity="warning")
