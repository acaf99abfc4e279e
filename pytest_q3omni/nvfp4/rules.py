"""The arithmetic of known packers: what each one makes of the same weights. PYTEST_DONT_REWRITE

The format leaves open how scales are rounded. Given the largest weight of a fused group, a rule says which global scale
its packer stores; given that scale, tables say every block scale and code (`kernels/tables.py`). So a stored tensor can
be compared with the source to the bit, whichever of them packed it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import ml_dtypes
import numpy as np

from pytest_q3omni.nvfp4.format import SCALE_DIVISOR
from pytest_q3omni.nvfp4.kernels.tables import Tables, divided_tables, tables_for

_SMALLEST_NORMAL = np.float32(2.0**-126)


class Rule(NamedTuple):
    """One packer's arithmetic.

    parameter: of the largest magnitude of a group (float32, finite), the number that its tables are made from.
    stored: of that number, the global scale as the file has it. likely: of a stored global scale, that number, as well
    as it can be told without the weights. tables: of that number.
    """

    name: str
    parameter: Callable[[np.float32], np.float32]
    stored: Callable[[np.float32], np.float32]
    likely: Callable[[np.float32], np.float32]
    tables: Callable[[float], Tables]


def _amax_over_2688(amax: np.float32) -> np.float32:
    return np.float32(amax / np.float32(SCALE_DIVISOR)) if amax else np.float32(1)


def _itself(value: np.float32) -> np.float32:
    return value


def _inverse(value: np.float32) -> np.float32:
    with np.errstate(divide="ignore", over="ignore"):
        return np.float32(1) / value


def _2688_over_amax(amax: np.float32, *, half: bool) -> np.float32:
    """`2688 / amax` as torch computes it: a reciprocal and a product, each rounded to the dtype of the weights; at
    least 2^-126 for amax, 1 where it overflows (compressed-tensors 0.10 to 0.20, `generate_gparam`)."""
    with np.errstate(over="ignore"):
        reciprocal = _rounded(np.float32(1) / max(amax, _SMALLEST_NORMAL), half)
        scale = _rounded(reciprocal * np.float32(SCALE_DIVISOR), half)
    return scale if np.isfinite(scale) else np.float32(1)


def _rounded(value: np.float32, half: bool) -> np.float32:
    return np.float32(ml_dtypes.bfloat16(value)) if half else np.float32(value)


MODELOPT = Rule("ModelOpt's rules", _amax_over_2688, _itself, _itself, tables_for)
"""Scales multiply; ModelOpt's exporter and this package."""

INVERTED = Rule("ModelOpt's rules, scales inverted", _amax_over_2688, _inverse, _inverse, tables_for)
"""The same codes and block scales in the layout whose global scales divide; this package."""

DIVIDED = Rule(
    "compressed-tensors' rules",
    functools.partial(_2688_over_amax, half=True),
    _itself,
    _itself,
    functools.partial(divided_tables, half=True),
)
"""Scales divide, statistics in BF16: llm-compressor on a model in BF16, the usual case."""

DIVIDED_WIDE = Rule(
    "compressed-tensors' rules in float32",
    functools.partial(_2688_over_amax, half=False),
    _itself,
    _itself,
    functools.partial(divided_tables, half=False),
)
"""The same with statistics in float32: llm-compressor on a model that was loaded in float32."""


def rules(*, inverted: bool) -> tuple[Rule, ...]:
    """The packers that write a layout: one whose global scales divide (`inverted`), or one whose scales multiply."""
    return (DIVIDED, INVERTED, DIVIDED_WIDE) if inverted else (MODELOPT,)


def likely_rule(stored: np.float32, *, inverted: bool) -> Rule:
    """Whose a stored global scale is, before the weights are known: one that BF16 can hold was rounded to it."""
    if not inverted:
        return MODELOPT
    return DIVIDED if int(stored.view(np.uint32)) & 0xFFFF == 0 else INVERTED
