"""Reading many small tensors: in file order, neighbours in one read, into one buffer.

A full-size checkpoint has 56,000 scales. One `open` and one `read` for each takes seconds; writers that sort by dtype
put them side by side, so a few large reads fetch them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from pytest_q3omni.omni.checkpoint import Checkpoint
from pytest_q3omni.omni.safetensors_file import Entry
from pytest_q3omni.omni.storage import Span, Storage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LIMIT = 8 << 20
"""Bytes of one read: large enough for the disk's full rate, small enough to stay in the cache while it is looked at."""

_FLOATS = ("F32", "BF16", "F16")
_LARGEST = 1 << 28  # bytes of a tensor that is read whole; a sparse file may claim terabytes
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


def floats(checkpoint: Checkpoint, name: str) -> NDArray[np.float32] | None:
    """A float tensor as a float32 vector; None where its dtype is no float, or it is larger than any scales are."""
    import numpy as np

    entry = checkpoint.entries[name]
    if entry.info.dtype not in _FLOATS or entry.end - entry.begin > _LARGEST:
        return None
    with np.errstate(invalid="ignore"):  # a signalling NaN stays one
        return checkpoint.array(name).astype(np.float32).reshape(-1)


def _is_scalar(entry: Entry) -> bool:
    return entry.info.dtype == "F32" and entry.end - entry.begin == 4


def pieces(checkpoint: Checkpoint, names: Iterable[str]) -> Iterator[Piece]:
    """The bytes of the tensors, in file order.

    Raises:
        Unreadable: a file got shorter since its header was read.
    """
    storage = checkpoint.storage
    limit = min(LIMIT, storage.span_bytes)
    groups = list(_reads(storage, _segments((checkpoint.entries[name] for name in names), limit), limit))
    for group, view in zip(groups, storage.spans(map(_span, groups)), strict=True):
        for segment in group:
            data = view[segment.begin - group[0].begin : segment.end - group[0].begin]
            yield Piece(segment.entry.info.name, segment.begin - segment.entry.begin, data)


class _Segment(NamedTuple):
    entry: Entry
    begin: int
    end: int


def _segments(entries: Iterable[Entry], limit: int) -> Iterator[_Segment]:
    for entry in sorted(entries, key=lambda entry: (entry.file.name, entry.begin)):
        for begin in range(entry.begin, entry.end, limit):
            yield _Segment(entry, begin, min(entry.end, begin + limit))


def _reads(storage: Storage, segments: Iterable[_Segment], limit: int) -> Iterator[list[_Segment]]:
    group: list[_Segment] = []
    for segment in segments:
        if group and not _joins(storage, group, segment, limit):
            yield group
            group = []
        group.append(segment)
    if group:
        yield group


def _joins(storage: Storage, group: list[_Segment], segment: _Segment, limit: int) -> bool:
    """True where one read fetches both: near each other, and nothing between them that may not be read."""
    first, gap = group[0], segment.begin - group[-1].end
    if segment.entry.file != first.entry.file or gap > _GAP or segment.end - first.begin > limit:
        return False
    return gap == 0 or storage.permits(Span(first.entry.file, first.begin, segment.end, first.entry.info.name))


def _span(group: list[_Segment]) -> Span:
    first = group[0].entry
    return Span(first.file, group[0].begin, group[-1].end, first.info.name)


def affordable(checkpoint: Checkpoint, names: Iterable[str], budget: float) -> list[str]:
    """Those tensors that fit into `budget` bytes: all, or runs of neighbours, evenly spread. In file order."""
    ordered = sorted((checkpoint.entries[name] for name in names), key=lambda entry: (entry.file.name, entry.begin))
    total = sum(entry.end - entry.begin for entry in ordered)
    if total <= budget:
        return [entry.info.name for entry in ordered]
    runs = _runs(ordered, checkpoint.storage.span_bytes)
    count = int(len(runs) * budget / total)
    return [entry.info.name for number in range(count) for entry in runs[number * len(runs) // count]]


def _runs(ordered: list[Entry], limit: int) -> list[list[Entry]]:
    """Neighbours of at most `limit` bytes together; a larger one alone."""
    runs: list[list[Entry]] = []
    size = 0
    for entry in ordered:
        size += entry.end - entry.begin
        if not runs or size > limit or entry.file != runs[-1][-1].file:
            runs.append([])
            size = entry.end - entry.begin
        runs[-1].append(entry)
    return runs
