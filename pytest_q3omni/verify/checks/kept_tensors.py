"""Unpacked tensors are the source's, byte for byte.

Norms, routers, towers, the talker and code2wav are copied. A loader notices no change in them, and of a damaged vocoder
nobody hears before the first audio.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pytest_q3omni.omni.safetensors_file import nbytes
from pytest_q3omni.records import TensorInfo
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.comparison import Buffers
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
    for tensor in kept:
        subject.progress("compare unpacked tensors", done, total)
        fault = _compare(subject, tensor, buffers)
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
    return here.info == there.info and subject.expected.get(tensor.name) is tensor


def _compare(subject: Subject, tensor: TensorInfo, buffers: Buffers) -> Fault | None:
    """A fault where the bytes differ; read in parts, so that an embedding costs no memory."""
    import numpy as np

    assert subject.source is not None
    size = nbytes(tensor)
    differing, first, alike = 0, -1, True
    for start in range(0, size, LIMIT):
        stop = min(size, start + LIMIT)
        mine = subject.checkpoint.read(tensor.name, buffers.get("mine", stop - start), start=start, stop=stop)
        theirs = subject.source.read(tensor.name, buffers.get("theirs", stop - start), start=start, stop=stop)
        if not np.array_equal(mine, theirs):
            changed = np.flatnonzero(_values(mine, tensor) != _values(theirs, tensor))
            width = _width(tensor)
            first = start // width + int(changed[0]) if first < 0 else first
            differing += len(changed)
            alike = alike and np.array_equal(np.sort(_values(mine, tensor)), np.sort(_values(theirs, tensor)))
    if not differing:
        return None
    count = size // _width(tensor)
    place = [int(index) for index in np.unravel_index(first, tensor.shape)] if tensor.shape else []
    note = "; the same values in another order" if alike and size <= LIMIT else ""
    return Fault(
        tensor.name,
        f"{differing:,} of {count:,} values differ from the source, first at {place}{note}",
        "the source's bytes",
        "copy the tensor from the source again",
    )


def _width(tensor: TensorInfo) -> int:
    from math import prod

    return max(1, nbytes(tensor) // max(1, prod(tensor.shape)))


def _values(data: NDArray[np.uint8], tensor: TensorInfo) -> NDArray[np.unsignedinteger]:
    """Bit patterns, element by element."""
    import numpy as np

    return data.view(np.dtype(f"u{_width(tensor)}"))


CHECK = Check(
    "kept-tensors",
    "faithful",
    __doc__,
    _find,
    after=("input-scale-range", "companions", "pickles", "hf-quant-config"),
    needs="source",
)
