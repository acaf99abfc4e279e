"""Every FP8 weight dequantizes to its source within half a step of E4M3.

E4M3 has three bits of mantissa: a normal value is off by 2^-4 of itself at most, a subnormal one (below 2^-6 times the
scale) by 2^-10 times the scale. ModelOpt divides in BF16, which adds 2^-8. A scale that is too small clips.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.reading import LIMIT, floats
from pytest_q3omni.verify.subject import FP8, Subject

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_HALF_STEP, _HALF_SUBNORMAL = 2.0**-4, 2.0**-10
_SLACK = 1.1  # 2^-8 of BF16 division over 2^-4, and its own rounding
_AGAIN = "quantize this module again from the source"


def _find(subject: Subject) -> Iterator[Fault]:
    done, worst = 0, 0.0
    for fp8 in subject.fp8.values():
        if subject.source is None or not _comparable(subject, fp8):
            continue
        error, largest, place, over = _compare(subject, fp8)
        done, worst = done + 1, max(worst, error)
        if over:
            told = f"relative error {error:.4f}; {over:,} weights are off by more than FP8 permits, first at {place}"
            told += f", the worst by {largest:.3g} times it"
            yield Fault(fp8.weight, told, "at most half a step of E4M3 (sound tensors: 0.026)", _AGAIN)
    left = sum(subject.source is not None and not subject.sound(fp8.module) for fp8 in subject.fp8.values())
    subject.uncompared += left
    if done:
        subject.note("faithful", f"{done:,} FP8 tensors within half a step, relative errors up to {worst:.4f}")


def _comparable(subject: Subject, fp8: FP8) -> bool:
    there = None if subject.source is None else subject.source.entries.get(fp8.weight)
    here, scale = subject.entries.get(fp8.weight), subject.entries.get(fp8.weight_scale)
    if there is None or here is None or scale is None or scale.end - scale.begin > LIMIT:
        return False
    if not subject.sound(fp8.module):
        return False
    return there.info.dtype == "BF16" and there.info.shape == here.info.shape == fp8.shape


def _compare(subject: Subject, fp8: FP8) -> tuple[float, float, list[int], int]:
    """(relative error, largest share of the permitted error, first place beyond it, how many are beyond it)."""
    import ml_dtypes
    import numpy as np

    assert subject.source is not None
    (out, inner), (square, total, largest, over, place) = fp8.shape, (0.0, 0.0, 0.0, 0, [-1, -1])
    scales = floats(subject.checkpoint, fp8.weight_scale)
    assert scales is not None
    step = max(1, LIMIT // (2 * inner))
    for start in range(0, out, step):
        stop = min(out, start + step)
        raw = subject.source.read(fp8.weight, start=2 * start * inner, stop=2 * stop * inner)
        wanted = raw.view(ml_dtypes.bfloat16).astype(np.float32).reshape(-1, inner)
        codes = subject.checkpoint.read(fp8.weight, start=start * inner, stop=stop * inner)
        scale = (scales[start:stop] if scales.size == out and out > 1 else scales).reshape(-1, 1)
        off = np.abs(codes.view(ml_dtypes.float8_e4m3fn).astype(np.float32).reshape(-1, inner) * scale - wanted)
        share = off / _permitted(wanted, scale)
        beyond = ~(share <= _SLACK)
        if beyond.any():
            row, column = (int(index) for index in np.argwhere(beyond)[0])
            place = [start + row, column] if not over else place
            over += int(beyond.sum())
        largest = max(largest, float(np.nan_to_num(share, nan=np.inf).max(initial=0)))
        square, total = square + float((off * off).sum()), total + float((wanted * wanted).sum())
    return (square / total) ** 0.5 if total else 0.0, largest, place, over


def _permitted(wanted: NDArray[np.float32], scale: NDArray[Any]) -> NDArray[np.float32]:
    import numpy as np

    permitted: NDArray[np.float32] = np.maximum(np.abs(wanted) * _HALF_STEP, scale * _HALF_SUBNORMAL)
    return permitted


CHECK = Check(
    "fp8-weights", "faithful", __doc__, _find, after=("kept-tensors", "fp8-scales"), needs="source", reads="weights"
)
