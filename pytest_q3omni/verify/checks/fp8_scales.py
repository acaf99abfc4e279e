"""Every FP8 weight has finite, positive scales of the size that weights have, and no NaN among its codes.

A weight scale is amax / 448. Codes 0x7f and 0xff of E4M3 are NaN, and one of them is NaN in every answer. The codes of
a remote checkpoint are not read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.reading import LIMIT, floats
from pytest_q3omni.verify.subject import FP8, Subject

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MOST = 10.0  # a largest weight of 4480 is none of a trained model
_AGAIN = "quantize this module again from the source"


def _find(subject: Subject) -> Iterator[Fault]:
    for fp8 in subject.fp8.values():
        if not subject.sound(fp8.module):
            continue
        for name in filter(None, (fp8.weight_scale, fp8.input_scale)):
            if name in subject.entries:
                yield from _scale(subject, name, most=_MOST if name == fp8.weight_scale else math.inf)
        if subject.sound(fp8.module) and subject.checkpoint.holds_weights:
            yield from _codes(subject, fp8)


def _scale(subject: Subject, name: str, *, most: float) -> Iterator[Fault]:
    import numpy as np

    found = floats(subject.checkpoint, name)
    if found is None:
        return  # a dtype that `dtypes` reports
    wrong = ~(np.isfinite(found) & (found > 0) & (found <= most))
    if wrong.any():
        first = int(wrong.argmax())
        where = f" at row {first}" if found.size > 1 else ""
        told = f"{found[first]:.6g}{where}"
        told += f", {int(wrong.sum()):,} of {found.size:,} wrong" if wrong.sum() > 1 else ""
        limit = "" if most == math.inf else f", at most {most:g}"
        yield Fault(name, told, f"finite numbers above 0{limit}: amax / 448", _AGAIN)


def _codes(subject: Subject, fp8: FP8) -> Iterator[Fault]:
    size, count, first = math.prod(fp8.shape), 0, -1
    if subject.entries[fp8.weight].info.shape != fp8.shape:
        return  # which `shapes` reports
    for start in range(0, size, LIMIT):
        bad = _not_a_number(subject.checkpoint.read(fp8.weight, start=start, stop=min(size, start + LIMIT)))
        if bad.any():
            first = start + int(bad.argmax()) if first < 0 else first
            count += int(bad.sum())
    if count:
        place = list(divmod(first, fp8.shape[1]))
        yield Fault(fp8.weight, f"{count:,} of {size:,} weights are NaN, first at {place}", "finite weights", _AGAIN)


def _not_a_number(codes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    nan: NDArray[np.bool_] = (codes & 0x7F) == 0x7F
    return nan


CHECK = Check("fp8-scales", "consistent", __doc__, _find, after=("dtypes", "scales-present"), reads="weights")
