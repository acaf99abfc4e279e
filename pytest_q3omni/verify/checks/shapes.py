"""Every tensor has the shape that the config implies: codes (out, in/2), block scales (out, in/16), scalars.

vLLM copies a truncated expert scale into the part of the buffer that it fills, without a word. One element may be a
scalar or a vector of one, and a scale per row a column or not: engines reshape them.
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
        if _solid(expected.shape) == _solid(entry.info.shape) and len(_solid(expected.shape)) < 2:
            continue
        turned = entry.info.shape == expected.shape[::-1]
        yield Fault(
            expected.name,
            f"shape {list(entry.info.shape)}{', transposed' if turned else ''}",
            f"{list(expected.shape)}",
            _COPY if subject.implied.get(expected.name) is expected else "pack this module again",
        )


def _solid(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without dimensions of 1 at its end."""
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape


CHECK = Check("shapes", "consistent", __doc__, _find, after=("names",))
