"""The calibration record beside the weights can be read.

Without it nobody can tell where the input scales come from, so `calibrated` fails. The weights do not need it: one
damaged byte in a record takes no other verdict away.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Subject


def _find(subject: Subject) -> Iterator[Fault]:
    error = subject.record_fault
    if error is not None:
        yield Fault(
            error.where or "q3omni/record.json",
            error.found,
            error.expected or "a readable calibration record",
            error.fix or "copy both files of the record again, or calibrate again",
        )


CHECK = Check("record-files", "calibrated", __doc__, _find)
