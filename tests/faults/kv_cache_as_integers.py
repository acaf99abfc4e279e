"""The KV cache is declared as integers."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block["kv_cache_scheme"].update(type="int"))


FAULT = Fault("declaration", f"{CONFIG}.kv_cache_scheme.type", "configuration", break_, base="fp8-kv")
