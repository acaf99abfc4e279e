"""Every tensor has its dtype: codes U8, block scales F8_E4M3, global and input scales F32, the rest as in the source.

vLLM takes float32 block scales without a word and reads them as something else.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Subject


def _find(subject: Subject) -> Iterator[Fault]:
    for expected in subject.expected.values():
        entry = subject.entries.get(expected.name)
        if entry is not None and entry.info.dtype != expected.dtype and subject.sound(expected.name):
            kept = subject.implied.get(expected.name) is expected
            fix = "write it as the source has it" if kept else "pack this module again"
            yield Fault(expected.name, f"dtype {entry.info.dtype}", expected.dtype, fix)


CHECK = Check("dtypes", "consistent", __doc__, _find, after=("planned-bytes",))
