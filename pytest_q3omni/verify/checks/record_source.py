"""The calibration record was made from this source: the sha256 of its config and headers is the record's.

Another model's record has the same layer names and other numbers, so nothing else tells.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Subject


def _find(subject: Subject) -> Iterator[Fault]:
    if subject.record is None or subject.source is None:
        return
    recorded, actual = subject.record.source_fingerprint, subject.source.fingerprint()
    if recorded != actual:
        yield Fault(
            "record.json",
            f"made from a checkpoint with fingerprint {recorded[:16]!r}",
            f"{actual[:16]!r}, that of the source given",
            "calibrate this source, or name the record's source",
        )


CHECK = Check("record-source", "calibrated", __doc__, _find, needs="record")
