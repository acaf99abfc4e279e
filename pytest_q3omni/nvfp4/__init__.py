"""NVFP4: 4-bit E2M1 weights with an E4M3 scale for every 16 and a float32 scale for the tensor.

Names are loaded on first use, so that `pytest_q3omni.nvfp4.format` costs neither numpy nor numba.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_q3omni.nvfp4.codec import Packed, pack_tensor, unpack_tensor

__all__ = ["Packed", "pack_tensor", "unpack_tensor"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pytest_q3omni.nvfp4 import codec

    return getattr(codec, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
