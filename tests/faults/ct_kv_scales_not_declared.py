"""Scales of an FP8 KV cache are stored, and compressed-tensors' config declares none."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(directory, lambda block: block.update(kv_cache_scheme=None))


FAULT = Fault("kv-cache-scales", CONFIG, "configuration", break_, base="ct-fp8-kv", severity="warning")
