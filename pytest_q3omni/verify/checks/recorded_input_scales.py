"""Every input scale comes from the record: float32 of the recorded amax / 2688, to the last bit.

ModelOpt's rule; a layer that calibration never ran has no entry and no honest scale. ModelOpt itself replaces a missing
amax by one that fits nothing, without a word.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from pytest_q3omni.derive.weights import site_scale
from pytest_q3omni.errors import NonFiniteAmax
from pytest_q3omni.nvfp4.format import SCALE_DIVISOR
from pytest_q3omni.omni.naming import input_site
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Subject


def _find(subject: Subject) -> Iterator[Fault]:
    record = subject.record
    if record is None:
        return
    for packed in subject.sound_packed():
        value, site = subject.input_scale(packed), input_site(packed.module)
        if value is None or subject.numerics(packed) != "w4a4":
            continue
        try:
            wanted = float(site_scale(site, record))
        except NonFiniteAmax as error:
            fix = f"{error.fix}, then pack again"
            yield Fault(packed.input_scale, f"{value:.6g}, and {error.found}", error.expected, fix)
            continue
        if not _same(value, wanted, divided_again=subject.layout.inverted):
            ratio = f", {value / wanted:.4g} times the record's" if wanted > 0 else ""
            yield Fault(
                packed.input_scale,
                f"{value:.9g}{ratio}",
                f"{wanted:.9g}: the recorded amax {record.input_amax[site]:.6g} / {SCALE_DIVISOR:.0f}",
                "write the recorded scale, or pack again with this record",
            )


def _same(value: float, wanted: float, *, divided_again: bool) -> bool:
    """To the last bit; a layout that stores the inverse rounds once more, and loses at most two of them."""
    return math.isclose(value, wanted, rel_tol=2.0**-22) if divided_again else value == wanted


CHECK = Check(
    "recorded-input-scales", "calibrated", __doc__, _find, after=("input-scale-range",), needs="record", reads="scales"
)
