"""Calibration ran: there were samples, every one of them passed, and the record's counts fit together.

A failed sample leaves its quantizers without data and no trace in the checkpoint. Counts that contradict each other
were not written by a calibration.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_q3omni.records import CalibrationRecord
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
        return
    for found, expected in _contradictions(record):
        yield Fault(_RECORD, found, expected, "calibrate again: this record was edited or is another run's")


def _contradictions(record: CalibrationRecord) -> Iterator[tuple[str, str]]:
    most = max(record.samples, key=lambda modality: record.samples[modality], default="")
    if most and record.samples[most] > record.samples_total:
        yield f"{record.samples[most]} samples with {most} of {record.samples_total}", "no more than there are"
    if record.samples_passed > 0 and not any(record.samples.values()):
        yield f"{record.samples_passed} samples passed, and none of any modality", "counts for each modality"


CHECK = Check("samples", "calibrated", __doc__, _find, needs="record")
