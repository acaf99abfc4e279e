"""Reading many small tensors: in file order, neighbours in one read, into one buffer.

A full-size checkpoint has 56,000 scales. One `open` and one `read` for each takes seconds; writers that sort by dtype
put them side by side, so a few large reads fetch them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_q3omni.errors import Unreadable
from pytest_q3omni.omni.checkpoint import Checkpoint
from pytest_q3omni.omni.safetensors_file import Entry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LIMIT = 8 << 20
"""Bytes of one read: large enough for the disk's full rate, small enough to stay in the cache while it is looked at."""

_GAP = 4096  # bytes between two tensors that are cheaper to read than to skip


class Piece(NamedTuple):
    """`data` are the bytes of tensor `name` from `start` on; all of them unless the tensor is larger than `LIMIT`.

    `data` is a view of a buffer that the next read overwrites.
    """

    name: str
    start: int
    data: NDArray[np.uint8]


def scalars(checkpoint: Checkpoint, names: Iterable[str]) -> dict[str, float]:
    """Values of float32 tensors with one element, as Python floats (exact). Others, and missing ones, are left out.

    Raises:
        Unreadable: a file got shorter since its header was read.
    """
    import numpy as np

    entries = checkpoint.entries
    wanted = [name for name in names if name in entries and _is_scalar(entries[name])]
    return {piece.name: float(piece.data.copy().view(np.float32)[0]) for piece in pieces(checkpoint, wanted)}


def _is_scalar(entry: Entry) -> bool:
    return entry.info.dtype == "F32" and entry.end - entry.begin == 4


def pieces(checkpoint: Checkpoint, names: Iterable[str]) -> Iterator[Piece]:
    """The bytes of the tensors, in file order.

    Raises:
        Unreadable: a file got shorter since its header was read.
    """
    import numpy as np

    buffer = np.empty(LIMIT, np.uint8)
    for group in _reads(_segments(checkpoint.entries[name] for name in names)):
        first, last = group[0], group[-1]
        view = buffer[: last.end - first.begin]
        with first.entry.file.open("rb", buffering=0) as stream:
            stream.seek(first.begin)
            _fill(stream, view, first.entry)
        for segment in group:
            data = view[segment.begin - first.begin : segment.end - first.begin]
            yield Piece(segment.entry.info.name, segment.begin - segment.entry.begin, data)


class _Segment(NamedTuple):
    entry: Entry
    begin: int
    end: int


def _segments(entries: Iterable[Entry]) -> Iterator[_Segment]:
    for entry in sorted(entries, key=lambda entry: (entry.file, entry.begin)):
        for begin in range(entry.begin, entry.end, LIMIT):
            yield _Segment(entry, begin, min(entry.end, begin + LIMIT))


def _reads(segments: Iterable[_Segment]) -> Iterator[list[_Segment]]:
    group: list[_Segment] = []
    for segment in segments:
        if group and not _joins(group, segment):
            yield group
            group = []
        group.append(segment)
    if group:
        yield group


def _joins(group: list[_Segment], segment: _Segment) -> bool:
    same = segment.entry.file == group[0].entry.file
    return same and segment.begin - group[-1].end <= _GAP and segment.end - group[0].begin <= LIMIT


def _fill(stream: Any, view: NDArray[np.uint8], entry: Entry) -> None:
    done = 0
    while done < len(view):
        count = stream.readinto(view[done:])
        if not count:
            raise Unreadable("ends too early", where=f"{entry.file}:{entry.info.name}", fix="copy the file again")
        done += count
