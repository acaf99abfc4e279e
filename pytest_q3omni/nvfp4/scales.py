"""Lengths of rows as their block scales bound them, at the rate the scales are read. Needs numpy, and no kernel."""

from __future__ import annotations

from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

_CHUNK = 1 << 15  # bytes of scales in one step: with their indices and squares they stay in a core's cache


def scale_lengths(block_scale: npt.NDArray[Any], weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """`sqrt(sum over k of (block_scale[row, k] * weights[k])^2)` for each row, to about 7 digits; NaN where a scale is.

    block_scale: float8_e4m3fn, or its bytes, `(rows, blocks)`. weights: finite, `(blocks,)`.
    """
    codes = np.ascontiguousarray(block_scale).view(np.uint8)
    if codes.shape[1] % 2:  # two scales are looked up at once
        codes, weights = np.pad(codes, ((0, 0), (0, 1))), np.append(weights, 0.0)
    largest = float(np.abs(weights).max(initial=0.0)) or 1.0
    shares = ((weights / largest) ** 2).astype(np.float32)
    pairs, rows = codes.view(np.uint16), max(1, _CHUNK // max(1, codes.shape[1]))
    indices = np.empty((min(rows, len(codes)), pairs.shape[1]), np.intp)
    squares = np.empty(indices.shape, np.uint64)
    sums = np.empty(len(codes), np.float32)
    with np.errstate(invalid="ignore"):
        for first in range(0, len(codes), rows):
            part = slice(0, len(codes) - first)  # the last chunk may be shorter than the buffers
            np.copyto(indices[part], pairs[first : first + rows])
            _pair_squares().take(indices[part], out=squares[part], mode="clip")  # any 16 bits fit; "raise" would copy
            np.matmul(squares[part].view(np.float32), shares, out=sums[first : first + rows])
    return largest * np.sqrt(sums.astype(np.float64))


@cache
def _pair_squares() -> npt.NDArray[np.uint64]:
    """Two E4M3 codes -> the squares of both, float32, in one word of 64 bits; in the order of memory on either side."""
    every_pair = np.arange(1 << 16, dtype=np.uint16).view(np.uint8)
    with np.errstate(invalid="ignore"):
        values = every_pair.view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    squares: npt.NDArray[np.uint64] = (values * values).view(np.uint64)
    squares.flags.writeable = False
    return squares
