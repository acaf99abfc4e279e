"""Unpacked tensors take the bytes that the plan gives them: as wide as in the source, else BF16.

A tensor written in float32 doubles its bytes; engines convert it on loading, so nothing but the size shows it. Norms
and routers in float32 are a habit of some tools, and no loss: wider is a warning where it costs less than a hundredth
of the checkpoint, all such tensors together.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_q3omni.omni.safetensors_file import Entry, nbytes
from pytest_q3omni.records import TensorInfo
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Subject

_WIDER = ("F32", "F64")
_LITTLE = 0.01


def _find(subject: Subject) -> Iterator[Fault]:
    other: list[tuple[TensorInfo, Entry, int]] = []
    for expected in subject.implied.values():
        entry = subject.entries.get(expected.name)
        if entry is None or subject.expected.get(expected.name) is not expected or not subject.sound(expected.name):
            continue
        planned = nbytes(expected)
        if entry.end - entry.begin != planned:
            other.append((expected, entry, planned))
    more = sum(entry.end - entry.begin - planned for _, entry, planned in other)
    whole = sum(entry.end - entry.begin for entry in subject.entries.values()) if other else 0
    harmless = all(entry.info.dtype in _WIDER for _, entry, _ in other) and more <= _LITTLE * whole
    for expected, entry, planned in other:
        yield Fault(
            expected.name,
            f"stored as {entry.info.dtype}: {entry.end - entry.begin:,} bytes",
            f"{expected.dtype}: {planned:,} bytes",
            "write it as the source has it",
            "warning" if harmless else "error",
        )


CHECK = Check("planned-bytes", "packed", __doc__, _find, after=("shapes",))
