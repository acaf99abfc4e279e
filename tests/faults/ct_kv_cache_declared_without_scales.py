"""compressed-tensors declares an FP8 KV cache, and no scale is stored: engines take 1."""

from pathlib import Path

from _checkpoint_edit import CONFIG, Fault, edit_quantization


def break_(directory: Path) -> None:
    edit_quantization(
        directory,
        lambda block: block.update(
            kv_cache_scheme={"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False, "symmetric": True}
        ),
    )


FAULT = Fault("names", CONFIG, "configuration", break_, base="ct-w4a4", severity="warning")
