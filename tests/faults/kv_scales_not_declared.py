"""Scales of an FP8 KV cache are stored, and the config declares none: engines leave them unused."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block.pop("kv_cache_scheme"))


FAULT = Fault("kv-cache-scales", CONFIG, "configuration", break_, base="fp8-kv", severity="warning")
