"""Input scales of FP8 layers are of the size that the layer's inputs can have: amax / 448, within what norms permit.

The same bounds as for NVFP4 (`verify/activations.py`), with another divisor: an RMSNorm's output reaches a least value
in every token, and exceeds a largest one in none. For o_proj there is only a largest one, from the rows of v_proj.
Down projections are not judged: their bound needs all weights of gate and up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

from pytest_q3omni.verify.activations import Activations, Range
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.reading import floats
from pytest_q3omni.verify.subject import FP8, Subject

_MARGIN = 8.0  # times a bound that a norm gives
_WIDE_MARGIN = 2.0  # times the bound for o_proj
_DIVISOR = 448.0
_FIX = "calibrate again: an FP8 input scale is the input's amax / 448"


def _find(subject: Subject) -> Iterator[Fault]:
    activations = Activations(subject)
    longest = cache(lambda module: _longest_row(subject, module))
    for fp8 in subject.fp8.values():
        scale = _scale(subject, fp8)
        if scale is None:
            continue
        amax, found = _DIVISOR * scale, activations.range_of(subject.named(fp8.module, fp8.shape))
        if found is None:
            parent, _, projection = fp8.module.rpartition(".")
            found = longest(f"{parent}.v_proj") if projection == "o_proj" else None
        expected = "" if found is None else _possible(amax, found)
        if expected:
            yield Fault(fp8.input_scale, f"{scale:.6g}: an input amax of {amax:.4g}", expected, _FIX)


def _scale(subject: Subject, fp8: FP8) -> float | None:
    """The input scale; None where there is none, or another check has reported the module."""
    entry = subject.entries.get(fp8.input_scale)
    if entry is None or not subject.sound(fp8.module) or math.prod(entry.info.shape) != 1:
        return None
    values = floats(subject.checkpoint, fp8.input_scale)
    return None if values is None else float(values[0])


def _possible(amax: float, found: Range) -> str:
    """What the amax would have to be, "" where it is possible."""
    if amax > (_MARGIN if found.exact else _WIDE_MARGIN) * found.upper:
        return f"an amax of at most {found.upper:.4g}: norm and weights allow no more"
    if found.exact and amax < found.typical / _MARGIN:
        return f"an amax of at least {found.typical:.4g}: every normalised token reaches it"
    return ""


def _longest_row(subject: Subject, module: str) -> Range | None:
    """The bound on what attention averages: `sqrt(H) * max_j |W_v[j] * w|`, w the norm's weight, from FP8 rows."""
    import ml_dtypes
    import numpy as np

    fp8 = subject.fp8.get(module)
    norm = f"{module.rpartition('.self_attn.')[0]}.input_layernorm.weight"
    known = fp8 is not None and subject.sound(module, norm) and norm in subject.entries
    if fp8 is None or not known or not subject.checkpoint.holds_weights:
        return None
    scales, weights = floats(subject.checkpoint, fp8.weight_scale), floats(subject.checkpoint, norm)
    if scales is None or weights is None or len(weights) != fp8.shape[1] or f"{module}.bias" in subject.entries:
        return None
    if subject.entries[fp8.weight].info.shape != fp8.shape:
        return None
    codes = subject.checkpoint.read(fp8.weight).view(ml_dtypes.float8_e4m3fn).reshape(fp8.shape)
    rows = np.linalg.norm(codes.astype(np.float32) * weights, axis=1) * scales
    return Range(0.0, math.sqrt(len(weights)) * float(rows.max()), False)


CHECK = Check("fp8-input-scale-range", "consistent", __doc__, _find, after=("fp8-scales",), reads="scales")
