"""Every input scale is finite and positive.

14 of 92,400 infinite ones were enough to crash a server (compressed-tensors#595); zero divides by zero in the kernel.
Where every packed module has one and every one is declared weight-only, the declaration is probably not what was meant:
vLLM drops the scales. A warning.
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
    yield from _idle(subject)


def _idle(subject: Subject) -> Iterator[Fault]:
    every = list(subject.packed.values())
    if every and all(p.input_scale in subject.entries and subject.numerics(p) == "w4a16" for p in every):
        yield Fault(
            every[0].input_scale,
            f"stored, like those of all {len(every):,} packed modules, and declared W4A16: engines drop it",
            "NVFP4 (W4A4) declared, or no input scales",
            "declare `quant_algo: NVFP4`, or leave the input scales out",
            "warning",
        )


CHECK = Check("input-scales", "consistent", __doc__, _find, after=("shared-scales",), reads="scales")
