"""The KV cache is declared with four bits, over scales of FP8."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block["kv_cache_scheme"].update(num_bits=4))


FAULT = Fault("declaration", f"{CONFIG}.kv_cache_scheme.num_bits", "configuration", break_, base="fp8-kv")
