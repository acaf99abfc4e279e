"""Tables that turn packing into integer comparisons, one pair per global scale. PYTEST_DONT_REWRITE

The rules divide in float32 (see `reference.py`). But a BF16 magnitude is one of 32,768 bit patterns, and a rounded
quotient grows with the dividend, so every decision "does `w / divisor` reach this bound" is "is the pattern of `|w|` at
least this integer". Those integers are found here:

- 126 of them part the block amax into E4M3 codes; spread out, they are a table from amax pattern to code;
- 7 for each E4M3 code part the weights of a block into E2M1 codes. An 8th says from where on a negative weight keeps
  its sign: the rule asks whether the *quotient* is negative, and a tiny one underflows to -0.0.

They are exact without a search. Take a float32 bound `t` whose last mantissa bit is 0 (all ours have few bits). A
quotient rounds to `t` or more when the real quotient is at least `t` minus half the gap below it: a tie goes to the
even neighbour, `t`. It rounds to more than `t` when it is more than `t` plus half the gap above. Either limit has at
most 25 bits and the divisor 24, so their product is exact in float64. Nothing here is subnormal in float64: a process
that flushes subnormals to zero (`torch.set_flush_denormal(True)`) gets the same tables.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import ml_dtypes
import numpy as np
import numpy.typing as npt

from pytest_q3omni.nvfp4 import format as nvfp4

INFINITY_BITS = 0x7F80
"""BF16 +Inf. As a threshold: no finite magnitude reaches it."""

_SMALLEST_SUBNORMAL = 2.0**-149  # of float32
_UNDERFLOW = 2.0**-150  # a float32 quotient up to here is 0: half the smallest subnormal, and ties go to even


class Tables(NamedTuple):
    """`scale_of` uint8 (32768,): BF16 magnitude of the block amax -> E4M3 code.
    `thresholds` uint32 (127, 8): E4M3 code -> first BF16 magnitude of E2M1 codes 1 to 7, and of those with a sign; each
    twice, in the low and the high half of the word, since processors fill a register with a word in one step.
    """

    scale_of: npt.NDArray[np.uint8]
    thresholds: npt.NDArray[np.uint32]


@functools.lru_cache(maxsize=16)
def tables_for(global_scale: float) -> Tables:
    """Tables for one global scale (a float32 value, finite and positive). Read-only, shared between callers."""
    scale_of = np.repeat(_E4M3_CODES, np.diff(_scale_edges(global_scale)))
    thresholds = _thresholds(global_scale)
    scale_of.flags.writeable = thresholds.flags.writeable = False
    return Tables(scale_of, thresholds)


def _limits(bounds: npt.NDArray[np.float64], reached: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Real quotient from which on (`reached`) or beyond which the float32 quotient is `>= bound`, or `> bound`."""
    narrow = bounds.astype(np.float32)
    beside = np.nextafter(narrow, np.where(reached, np.float32(0), np.float32(np.inf)))
    return (bounds + beside.astype(np.float64)) / 2


def _first_magnitude(limit: npt.NDArray[np.float64], inclusive: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Smallest BF16 magnitude pattern whose value is `>= limit` (`inclusive`) or `> limit`; `INFINITY_BITS` if none is.

    `limit` is positive. A positive float64 orders like its bits, and BF16 keeps the upper 7 of its 52 mantissa bits:
    45 fall away, and the exponent bias changes from 1023 to 127. Below 2**-126, BF16 counts multiples of 2**-133.
    """
    bits = limit.view(np.int64)
    normal = (bits >> 45) - ((1023 - 127) << 7) + ((bits & ((1 << 45) - 1)) > 0)
    steps = np.minimum(limit, 2.0**-126) * 2.0**133
    subnormal = np.ceil(steps)
    exact = np.where(limit < 2.0**-126, subnormal == steps, (bits & ((1 << 45) - 1)) == 0)
    first = np.where(limit < 2.0**-126, subnormal.astype(np.int64), normal) + (exact & ~inclusive)
    capped: npt.NDArray[np.int64] = np.minimum(first, INFINITY_BITS)
    return capped


def _float32(value: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """`value`, positive, rounded to the nearest float32 (ties to even), subnormal ones by integer rounding."""
    with np.errstate(over="ignore"):
        normal = value.astype(np.float32).astype(np.float64)
    return np.where(value < 2.0**-126, np.rint(value * 2.0**149) * _SMALLEST_SUBNORMAL, normal)


_E4M3_VALUES = np.arange(nvfp4.E4M3_MAX_CODE + 1, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float64)
_E4M3_CODES = np.array([nvfp4.E4M3_ONE_CODE, *range(1, nvfp4.E4M3_MAX_CODE + 1)], dtype=np.uint8)
_E4M3_EVEN = np.arange(2, nvfp4.E4M3_MAX_CODE + 1) % 2 == 0  # a tie between two codes goes to the even one
_SCALE_LIMITS = _limits((_E4M3_VALUES[1:-1] + _E4M3_VALUES[2:]) / 2, _E4M3_EVEN)
_CODE_REACHED = np.array(nvfp4.E2M1_TIES_UP)
_CODE_LIMITS = np.append(_limits(np.array(nvfp4.E2M1_BOUNDS), _CODE_REACHED), _UNDERFLOW)
_CODE_INCLUSIVE = np.append(_CODE_REACHED, False)


def _scale_edges(global_scale: float) -> npt.NDArray[np.int64]:
    """Where the E4M3 code changes: `edges[k]` is the first amax pattern of `_E4M3_CODES[k]`; 128 values.

    The first range is the amax that divides to zero: its scale is 1.0. The second starts at the smallest positive
    quotient, whose scale is clamped up to code 1.
    """
    divisor = _float32(np.array([nvfp4.E2M1_MAX * global_scale]))
    limits = np.append(_UNDERFLOW, _SCALE_LIMITS) * divisor
    first = _first_magnitude(limits, np.append(False, _E4M3_EVEN))
    return np.concatenate([[0], first, [1 << 15]])


def _thresholds(global_scale: float) -> npt.NDArray[np.uint32]:
    """First magnitude of E2M1 codes 1 to 7 and of the sign, for each E4M3 code. Code 0 (scale zero) does not occur."""
    divisors = _float32(_E4M3_VALUES * global_scale)
    divisors[0] = divisors[1]
    return _first_magnitudes(divisors)


def _first_magnitudes(divisors: npt.NDArray[np.float64]) -> npt.NDArray[np.uint32]:
    limits = divisors[:, None] * _CODE_LIMITS
    first = _first_magnitude(limits, np.broadcast_to(_CODE_INCLUSIVE, limits.shape))
    return (first << 16 | first).astype(np.uint32)


_ZERO_BLOCK_CODE = 0x20  # 0.125, what compressed-tensors writes where a block scale would be 0


@functools.cache
def _sixths(half: bool) -> npt.NDArray[np.float64]:
    """A sixth of every BF16 magnitude, rounded to BF16 (`half`) or float32; (32768,)."""
    patterns = np.arange(1 << 15)
    normal = np.ldexp(128.0 + (patterns & 0x7F), (patterns >> 7) - 134)
    magnitudes = np.where(patterns < 0x80, patterns * 2.0**-133, normal)
    magnitudes[INFINITY_BITS:] = 0.0  # no weight has them
    sixths = _float32(magnitudes / nvfp4.E2M1_MAX)
    return _bfloat16(sixths) if half else sixths


def _bfloat16(value: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """`value`, not negative, rounded to the nearest BF16 (ties to even), subnormal ones by integer rounding."""
    _, exponent = np.frexp(value)
    exponent = np.maximum(exponent, -125)
    rounded: npt.NDArray[np.float64] = np.rint(np.ldexp(value, 8 - exponent)) * np.ldexp(1.0, exponent - 8)
    return rounded


@functools.lru_cache(maxsize=16)
def divided_tables(stored: float, *, half: bool) -> Tables:
    """Tables of compressed-tensors' rules for one stored global scale, which divides (a float32 value, positive).

    Block scale: `E4M3(min(448, sixth of the block amax * stored))`, 0 becomes 0.125; the sixth is rounded to BF16
    (`half`) or float32 first. Codes: nearest of `w / (scale / stored)`, both divisions in float32. Ties, saturation and
    signs as in ModelOpt's (run: compressed-tensors 0.10.2 to 0.20.0, 554 tensors and all 32,640 finite amax).
    """
    with np.errstate(over="ignore"):
        wanted = np.minimum(_float32(_sixths(half) * stored), nvfp4.E4M3_MAX)
        divisors = _float32(_E4M3_VALUES / stored)
    scale_of = wanted.astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
    scale_of = np.where(scale_of == 0, np.uint8(_ZERO_BLOCK_CODE), scale_of)
    divisors[0] = divisors[1]
    thresholds = _first_magnitudes(divisors)
    scale_of.flags.writeable = thresholds.flags.writeable = False
    return Tables(scale_of, thresholds)
