"""Unpacked tensors are the source's, byte for byte.

Norms, routers, towers, the talker and code2wav are copied. A loader notices no change in them, and of a damaged vocoder
nobody hears before the first audio.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

from pytest_q3omni.omni.safetensors_file import nbytes
from pytest_q3omni.records import TensorInfo
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.comparison import Buffers, in_order, widened
from pytest_q3omni.verify.reading import LIMIT
from pytest_q3omni.verify.subject import Subject

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def _find(subject: Subject) -> Iterator[Fault]:
    source = subject.source
    if source is None:
        return
    kept = [tensor for tensor in subject.implied.values() if _comparable(subject, tensor)]
    total, done, identical = sum(map(nbytes, kept)), 0, 0
    buffers = Buffers()
    compared = in_order(lambda part: _differences(subject, *part, buffers), chain.from_iterable(map(_parts, kept)))
    for tensor in kept:
        subject.progress("compare unpacked tensors", done, total)
        fault = _fault(tensor, list(islice(compared, len(_parts(tensor)))))
        done += nbytes(tensor)
        identical += fault is None
        if fault is not None:
            yield fault
    wanted = sum(subject.expected.get(tensor.name) is tensor for tensor in subject.implied.values())
    left = wanted - len(kept)
    subject.uncompared += left
    if kept:
        out = f"; {left:,} not compared: see the findings" if left else ""
        subject.note("faithful", f"{identical:,} of {wanted:,} unpacked tensors are identical to the source{out}")


def _comparable(subject: Subject, tensor: TensorInfo) -> bool:
    here = subject.entries.get(tensor.name)
    there = None if subject.source is None else subject.source.entries.get(tensor.name)
    if here is None or there is None or not subject.sound(tensor.name):
        return False
    same = here.info == there.info or (widened(here.info, there.info) and here.info.shape == there.info.shape)
    return same and subject.expected.get(tensor.name) is tensor


class _Differences(NamedTuple):
    """Values of a part that differ: how many, the first one's place in the tensor; whether both sides have the same
    values in some order."""

    number: int
    first: int
    alike: bool


def _parts(tensor: TensorInfo) -> list[tuple[TensorInfo, int]]:
    """A tensor in parts of `LIMIT` bytes, by their first byte, so that an embedding costs no memory."""
    return [(tensor, start) for start in range(0, nbytes(tensor), LIMIT)]


def _differences(subject: Subject, tensor: TensorInfo, start: int, buffers: Buffers) -> _Differences | None:
    """What differs in one part; None where nothing does."""
    import numpy as np

    assert subject.source is not None
    stop = min(nbytes(tensor), start + LIMIT)
    theirs = subject.source.read(tensor.name, buffers.get("theirs", stop - start), start=start, stop=stop)
    if widened(subject.entries[tensor.name].info, tensor):
        wide = subject.checkpoint.read(
            tensor.name, buffers.get("wide", 2 * len(theirs)), start=2 * start, stop=2 * stop
        )
        theirs = np.left_shift(theirs.view(np.uint16).astype(np.uint32), 16).view(np.uint8)
        return _first_difference(wide, theirs, 4, start // 2)
    mine = subject.checkpoint.read(tensor.name, buffers.get("mine", stop - start), start=start, stop=stop)
    words = len(mine) // 8 * 8  # eight bytes at a time, and the few that are left
    same = np.array_equal(mine[:words].view(np.uint64), theirs[:words].view(np.uint64))
    if same and np.array_equal(mine[words:], theirs[words:]):
        return None
    return _first_difference(mine, theirs, _width(tensor), start // _width(tensor))


def _first_difference(
    mine: NDArray[np.uint8], theirs: NDArray[np.uint8], width: int, start: int
) -> _Differences | None:
    """Compares bit patterns of `width` bytes, the first of which is element `start` of the tensor."""
    import numpy as np

    left, right = (data.view(np.dtype(f"u{width}")) for data in (mine, theirs))
    changed = np.flatnonzero(left != right)
    if not len(changed):
        return None
    return _Differences(len(changed), start + int(changed[0]), np.array_equal(np.sort(left), np.sort(right)))


def _fault(tensor: TensorInfo, parts: list[_Differences | None]) -> Fault | None:
    """A fault where a part differs."""
    import numpy as np

    size, found = nbytes(tensor), [part for part in parts if part is not None]
    if not found:
        return None
    differing, first = sum(part.number for part in found), found[0].first
    count = size // _width(tensor)
    place = [int(index) for index in np.unravel_index(first, tensor.shape)] if tensor.shape else []
    note = "; the same values in another order" if found[0].alike and size <= LIMIT else ""
    return Fault(
        tensor.name,
        f"{differing:,} of {count:,} values differ from the source, first at {place}{note}",
        "the source's bytes",
        "copy the tensor from the source again",
    )


def _width(tensor: TensorInfo) -> int:
    from math import prod

    return max(1, nbytes(tensor) // max(1, prod(tensor.shape)))


CHECK = Check(
    "kept-tensors",
    "faithful",
    __doc__,
    _find,
    after=("input-scale-range", "companions", "pickles", "hf-quant-config"),
    needs="source",
    reads="weights",
)
