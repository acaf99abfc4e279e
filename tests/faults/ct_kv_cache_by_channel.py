"""The KV cache is declared with a scale per channel, and each layer has one."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block["kv_cache_scheme"].update(strategy="channel"))


FAULT = Fault("declaration", f"{CONFIG}.kv_cache_scheme.strategy", "configuration", break_, base="ct-fp8-kv")
