"""Every input scale is finite and positive.

14 of 92,400 infinite ones were enough to crash a server (compressed-tensors#595); zero divides by zero in the kernel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Subject


def _find(subject: Subject) -> Iterator[Fault]:
    for packed in subject.sound_packed():
        value = subject.scalar(packed.input_scale)
        if value is not None and not (math.isfinite(value) and value > 0):
            yield Fault(
                packed.input_scale,
                f"{value:.6g}",
                "a finite number above 0: the input's amax / 2688",
                "calibrate again, or take the record's amax / 2688",
            )


CHECK = Check("input-scales", "consistent", __doc__, _find, after=("shared-scales",))
