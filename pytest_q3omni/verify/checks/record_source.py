"""The calibration record was made from this source: the sha256 of its config and headers is the record's.

Another model's record has the same layer names and other numbers, so nothing else tells. A fine-tune has its parent's
headers as well: there a sample of the weights decides, where the record has one.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Subject

_FIX = "calibrate this source, or name the record's source"


def _find(subject: Subject) -> Iterator[Fault]:
    if subject.record is None or subject.source is None:
        return
    recorded, actual = subject.record.source_fingerprint, subject.source.fingerprint()
    if recorded != actual:
        yield Fault(
            "record.json",
            f"made from a checkpoint with fingerprint {recorded[:16]!r}",
            f"{actual[:16]!r}, that of the source given",
            _FIX,
        )
    elif subject.record.source_weights and subject.record.source_weights != (sample := subject.source.weights_sample()):
        yield Fault(
            "record.json",
            f"made from other weights with the same headers: sample {subject.record.source_weights[:16]!r}",
            f"{sample[:16]!r}, that of the source given",
            _FIX,
        )


CHECK = Check("record-source", "calibrated", __doc__, _find, needs="record")
