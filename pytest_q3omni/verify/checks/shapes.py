"""Every tensor has the shape that the config implies: codes (out, in/2), block scales (out, in/16), scalars.

vLLM copies a truncated expert scale into the part of the buffer that it fills, without a word. One element may be a
scalar or a vector of one: engines reshape it.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Subject

_COPY = "copy it from the source, or correct config.json"


def _find(subject: Subject) -> Iterator[Fault]:
    for expected in subject.expected.values():
        entry = subject.entries.get(expected.name)
        if entry is None or entry.info.shape == expected.shape or not subject.sound(expected.name):
            continue
        if expected.shape == () and entry.info.shape == (1,):
            continue
        turned = entry.info.shape == expected.shape[::-1]
        yield Fault(
            expected.name,
            f"shape {list(entry.info.shape)}{', transposed' if turned else ''}",
            f"{list(expected.shape)}",
            _COPY if subject.implied.get(expected.name) is expected else "pack this module again",
        )


CHECK = Check("shapes", "consistent", __doc__, _find, after=("names",))
