"""Unpacked tensors take the bytes that the plan gives them: as wide as in the source, else BF16.

A tensor written in float32 doubles its bytes; engines convert it on loading, so nothing but the size shows it.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_q3omni.omni.safetensors_file import nbytes
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Subject


def _find(subject: Subject) -> Iterator[Fault]:
    for expected in subject.implied.values():
        entry = subject.entries.get(expected.name)
        if entry is None or subject.expected.get(expected.name) is not expected or not subject.sound(expected.name):
            continue
        stored, planned = nbytes(entry.info), nbytes(expected)
        if stored != planned:
            yield Fault(
                expected.name,
                f"stored as {entry.info.dtype}: {stored:,} bytes",
                f"{expected.dtype}: {planned:,} bytes",
                "write it as the source has it",
            )


CHECK = Check("planned-bytes", "packed", __doc__, _find, after=("shapes",))
