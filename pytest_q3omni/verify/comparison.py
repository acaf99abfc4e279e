"""Comparing with the source, tensor by tensor: what the faithful checks share. A few rows in memory, buffers reused."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_q3omni.nvfp4.format import BLOCK_SIZE
from pytest_q3omni.omni.checkpoint import Checkpoint
from pytest_q3omni.omni.naming import fused_group
from pytest_q3omni.records import TensorInfo
from pytest_q3omni.verify.subject import Packed, Subject

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pytest_q3omni.nvfp4.codec import Packed as Values
    from pytest_q3omni.nvfp4.rederive import Rederived
    from pytest_q3omni.nvfp4.rules import Rule

    Weight = NDArray[Any]

NOISE = (0.093, 0.097)
"""Relative error of sound NVFP4 tensors of trained weights, measured; what the format costs."""


_PIECE = 2 << 20  # bytes of BF16 that are read and compared in one step: they stay in a core's cache
_MOST_WORKERS = 8  # each has buffers of its own; memory and disk are busy by then

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_order(run: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """`run(item)` for all items, on all cores and a few ahead of the one that is asked for: one reads while another
    computes. What it raises is raised when its turn comes."""
    from pytest_q3omni.nvfp4.kernels.threads import cores

    workers = min(cores(), _MOST_WORKERS)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="compare")
    ahead: deque[Future[_Result]] = deque()
    try:
        for item in items:
            ahead.append(pool.submit(run, item))
            if len(ahead) > 4 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class Buffers(threading.local):
    """Byte buffers by purpose, grown when a larger tensor comes; every thread has its own."""

    def __init__(self) -> None:
        self._buffers: dict[object, NDArray[np.uint8]] = {}

    def get(self, purpose: object, size: int) -> NDArray[np.uint8]:
        """A buffer of exactly `size` bytes; the one that `purpose` had before is overwritten."""
        import numpy as np

        held = self._buffers.get(purpose)
        if held is None or len(held) < size:
            held = self._buffers[purpose] = np.empty(size, np.uint8)
        return held[:size]


def source_weight(source: Checkpoint, packed: Packed, buffers: Buffers, purpose: object = "source") -> Weight:
    """The BF16 weight that a module was packed from, (out, in), in a reused buffer."""
    import ml_dtypes

    name = f"{packed.module}.weight"
    entry = source.entries[name]
    raw = source.read(name, buffers.get(purpose, entry.end - entry.begin))
    weight: Weight = raw.view(ml_dtypes.bfloat16).reshape(packed.shape)
    return weight


def stored_values(subject: Subject, packed: Packed, buffers: Buffers) -> Values:
    """Codes and scales of a module as the codec takes them, in reused buffers."""
    import ml_dtypes
    import numpy as np

    from pytest_q3omni.nvfp4.codec import Packed as Values

    out, inner = packed.shape
    checkpoint = subject.checkpoint
    codes = checkpoint.read(packed.codes, buffers.get("codes", out * inner // 2)).reshape(out, -1)
    scales = checkpoint.read(packed.block_scale, buffers.get("scales", out * inner // BLOCK_SIZE))
    value = subject.global_scale(packed)
    scale = np.float32("nan") if value is None else np.float32(value)
    return Values(codes, scales.view(ml_dtypes.float8_e4m3fn).reshape(out, -1), scale)


def rederived(
    subject: Subject, packed: Packed, buffers: Buffers, rule: Rule | None = None, parameter: np.float32 | None = None
) -> Rederived:
    """A module of `comparable` beside what packing its source gives, by default with its own global scale and the rule
    that this scale suggests. Reads both once.

    Raises:
        FormatError: a global scale that is not finite and positive.
    """
    import ml_dtypes
    import numpy as np

    from pytest_q3omni.nvfp4.codec import Packed as Values
    from pytest_q3omni.nvfp4.codec import check_scale
    from pytest_q3omni.nvfp4.rederive import Rederived
    from pytest_q3omni.nvfp4.rules import likely_rule

    assert subject.source is not None
    out, inner = packed.shape
    stored = np.float32(subject.scalar(packed.global_scale) or 0)
    rule = likely_rule(stored, inverted=subject.layout.inverted) if rule is None else rule
    scale = check_scale(subject.global_scale(packed) or 0, packed.module)
    tables = rule.tables(float(rule.likely(stored) if parameter is None else parameter))
    result, at_once = Rederived(inner, scale, tables), max(1, _PIECE // (2 * inner))
    for first in range(0, out, at_once):
        rows = range(first, min(out, first + at_once))
        weight = _rows(subject.source, f"{packed.module}.weight", rows, 2 * inner, buffers)
        codes = _rows(subject.checkpoint, packed.codes, rows, inner // 2, buffers)
        scales = _rows(subject.checkpoint, packed.block_scale, rows, inner // BLOCK_SIZE, buffers)
        values = Values(codes, scales.view(ml_dtypes.float8_e4m3fn), scale)
        result.add(weight.view(ml_dtypes.bfloat16), values)
    return result


def _rows(checkpoint: Checkpoint, name: str, rows: range, width: int, buffers: Buffers) -> NDArray[np.uint8]:
    """Bytes of some rows, `width` bytes each, in a buffer that tensors of other widths leave alone."""
    start, stop = rows.start * width, rows.stop * width
    return checkpoint.read(name, buffers.get(width, stop - start), start=start, stop=stop).reshape(-1, width)


def comparable(subject: Subject) -> Iterator[tuple[Packed, ...]]:
    """Fused groups of sound packed modules whose BF16 source is there in the same shape, in the order of the source."""
    if subject.source is None:
        return
    groups: dict[str, list[Packed]] = defaultdict(list)
    for packed in subject.sound_packed():
        if comparable_module(subject, packed):
            groups[fused_group(packed.module)].append(packed)
    yield from map(tuple, groups.values())


def comparable_module(subject: Subject, packed: Packed) -> bool:
    """True where a packed module's tensors are as expected and its BF16 source is there in the same shape."""
    entry = None if subject.source is None else subject.source.entries.get(f"{packed.module}.weight")
    if entry is None or entry.info.dtype != "BF16" or entry.info.shape != packed.shape:
        return False
    readable = _as_expected(subject, packed.codes) and _as_expected(subject, packed.block_scale)
    return readable and subject.global_scale(packed) is not None


def widened(here: TensorInfo, there: TensorInfo) -> bool:
    """True where a BF16 tensor is stored in float32: the same values, if its lower halves are zero."""
    return (here.dtype, there.dtype) == ("F32", "BF16")


def _as_expected(subject: Subject, name: str) -> bool:
    entry = subject.entries.get(name)
    return entry is not None and entry.info == subject.expected.get(name)
