"""What both layouts say of a quantized KV cache, in one spelling: compressed-tensors' arguments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pytest_q3omni.layouts._protocol import FaultTuple

_KNOWN: dict[str, tuple[Any, ...]] = {
    "num_bits": (8,),
    "type": ("float",),
    "dynamic": (False,),
    "strategy": ("tensor", "attn_head"),
    "symmetric": (True,),
}


def kv_cache_faults(block: Mapping[str, Any]) -> Iterator[FaultTuple]:
    """Faults of `kv_cache_scheme`: anything but static FP8, which is what engines take. Fields may be left out."""
    scheme = block.get("kv_cache_scheme")
    if not scheme:
        return
    fix = "declare the FP8 cache that the scales are for, or none"
    if not isinstance(scheme, Mapping):
        yield "kv_cache_scheme", repr(scheme)[:80], "an object, or null", fix
        return
    for field, known in _KNOWN.items():
        found = scheme.get(field)
        if found is not None and not any(found == value and type(found) is type(value) for value in known):
            yield f"kv_cache_scheme.{field}", repr(found)[:80], " or ".join(map(repr, known)), fix
