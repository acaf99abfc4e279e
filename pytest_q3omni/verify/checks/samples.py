"""Calibration ran: there were samples, and every one of them passed.

A failed sample leaves its quantizers without data and no trace in the checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Subject

_RECORD = "record.json"


def _find(subject: Subject) -> Iterator[Fault]:
    record = subject.record
    if record is None:
        return
    for failure in record.failures:
        yield Fault(
            f"{_RECORD}: {failure.sample}",
            f"the sample failed: {failure.cause}",
            "every sample passes",
            "mend or remove the conversation, then calibrate again",
        )
    if record.samples_passed <= 0 and not record.failures:
        yield Fault(_RECORD, f"{record.samples_total} samples", "at least one", "calibrate with conversations")


CHECK = Check("samples", "calibrated", __doc__, _find, needs="record")
