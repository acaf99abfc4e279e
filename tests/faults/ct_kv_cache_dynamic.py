"""The KV cache is declared dynamic, over stored scales."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block["kv_cache_scheme"].update(dynamic=True))


FAULT = Fault("declaration", f"{CONFIG}.kv_cache_scheme.dynamic", "configuration", break_, base="ct-fp8-kv")
