"""Comparing with the source, tensor by tensor: what the faithful checks share. One group in memory, buffers reused."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pytest_q3omni.nvfp4.format import BLOCK_SIZE
from pytest_q3omni.omni.checkpoint import Checkpoint
from pytest_q3omni.omni.naming import fused_group
from pytest_q3omni.verify.subject import Packed, Subject

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pytest_q3omni.nvfp4.codec import Packed as Values

    Weight = NDArray[Any]

NOISE = (0.093, 0.097)
"""Relative error of sound NVFP4 tensors of trained weights, measured; what the format costs."""


class Buffers:
    """Byte buffers by purpose, grown when a larger tensor comes."""

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
    value = subject.scalar(packed.global_scale)
    scale = np.float32("nan") if value is None else np.float32(value)
    return Values(codes, scales.view(ml_dtypes.float8_e4m3fn).reshape(out, -1), scale)


def comparable(subject: Subject) -> Iterator[tuple[Packed, ...]]:
    """Fused groups of sound packed modules whose BF16 source is there in the same shape, in the order of the source."""
    if subject.source is None:
        return
    groups: dict[str, list[Packed]] = defaultdict(list)
    for packed in subject.sound_packed():
        entry = subject.source.entries.get(f"{packed.module}.weight")
        as_planned = entry is not None and entry.info.dtype == "BF16" and entry.info.shape == packed.shape
        readable = _as_expected(subject, packed.codes) and _as_expected(subject, packed.block_scale)
        if as_planned and readable and subject.scalar(packed.global_scale) is not None:
            groups[fused_group(packed.module)].append(packed)
    yield from map(tuple, groups.values())


def _as_expected(subject: Subject, name: str) -> bool:
    entry = subject.entries.get(name)
    return entry is not None and entry.info == subject.expected.get(name)
