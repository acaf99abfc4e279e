"""Streaming: one shard at a time, one block of rows at a time. Memory is a few chunks, whatever the model's size.

Every offset is known from the plan, so tensors are written where they belong as they come. A group's largest weight is
needed before its first row can be packed; its members are read twice, the second time from the page cache.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_q3omni.derive.weights import fused_groups, group_scale, input_scale
from pytest_q3omni.errors import InvalidRequest
from pytest_q3omni.layouts import layout as layout_named
from pytest_q3omni.nvfp4.format import BLOCK_SIZE
from pytest_q3omni.omni.checkpoint import Checkpoint
from pytest_q3omni.omni.safetensors_file import layout, nbytes
from pytest_q3omni.records import CalibrationRecord, Plan, ShardPlan, TensorPlan

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

RUNTIME_BYTES = 256 << 20  # the interpreter with numpy, numba and the compiled kernels; measured 210 MiB
LARGEST_CHUNK = 64 << 20  # larger chunks were no faster


def chunk_bytes(max_memory: int, plan: Plan) -> int:
    """Bytes of BF16 source that one step may hold, from the memory limit.

    A step holds its rows, their codes and block scales (9/32 as much), and room for the copies that a kernel makes.

    Raises:
        InvalidRequest: the limit is below what the runtime and one row of the widest weight need.
    """
    row = max((2 * tensor.source.shape[1] for tensor in plan.packed), default=0)
    least = RUNTIME_BYTES + 2 * max(row, 1 << 20)
    if max_memory < least:
        raise InvalidRequest(
            f"a memory limit of {max_memory / 2**20:.0f} MiB",
            expected=f"at least {-(-least // 2**20)} MiB",
            fix="raise --max-memory",
        )
    return min(LARGEST_CHUNK, (max_memory - RUNTIME_BYTES) // 2)


@dataclass
class Packer:
    """Packs the shards of one plan. `advance` is told the bytes written since its last call."""

    source: Checkpoint
    plan: Plan
    record: CalibrationRecord | None
    chunk: int
    advance: Callable[[int], None]
    _scales: dict[str, np.float32] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._groups = fused_groups(self.plan)
        self._inverted = layout_named(self.plan.layout).inverted
        self._by_target = {target.name: tensor for tensor in self.plan.tensors for target in tensor.targets}

    def write_shard(self, shard: ShardPlan, file: Path) -> None:
        """Write one shard to `file` (created or overwritten) and sync it to disk.

        Raises:
            FormatError: NaN or Inf in a weight, or an all-zero group; named.
            NonFiniteAmax: the record lacks a layer's input.
            OSError: the disk is full, or `file` may not be written.
        """
        written = layout(shard.tensors)
        size = len(written.header) + written.data_bytes
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            _reserve(descriptor, size)
            _write(descriptor, written.header, 0)
            for tensor in dict.fromkeys(self._by_target[target.name] for target in shard.tensors):
                for name, offset, piece in self._pieces(tensor, written.offsets):
                    _write(descriptor, piece, written.offsets[name] + offset)
                    self.advance(len(piece))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _pieces(self, tensor: TensorPlan, here: Mapping[str, int]) -> Iterator[tuple[str, int, Bytes]]:
        """(target, offset within it, bytes) of those targets of a tensor that lie in this shard."""
        if tensor.action == "keep":
            yield from ((tensor.targets[0].name, start, part) for start, part in self._chunks(tensor))
            return
        import numpy as np

        codes, scales, *scalars = tensor.targets
        scale = self._scale(tensor)
        if codes.name in here or scales.name in here:
            inner = tensor.source.shape[1]
            for start, part_codes, part_scales in self._packed_rows(tensor, scale):
                if codes.name in here:
                    yield codes.name, start * (inner // 2), part_codes
                if scales.name in here:
                    yield scales.name, start * (inner // BLOCK_SIZE), part_scales
        values = [scale] if self.record is None or len(scalars) == 1 else [scale, input_scale(tensor, self.record)]
        if self._inverted:
            values = [np.float32(1) / value for value in values]
        for target, value in zip(scalars, values, strict=True):
            if target.name in here:
                yield target.name, 0, np.frombuffer(value.tobytes(), np.uint8)

    def _packed_rows(self, tensor: TensorPlan, scale: np.float32) -> Iterator[tuple[int, Bytes, Bytes]]:
        """(first row, codes, block scales) of a weight, block of rows by block of rows."""
        import numpy as np

        from pytest_q3omni.nvfp4.codec import pack_into

        inner = tensor.source.shape[1]
        for start, part in self._chunks(tensor):
            weight = _rows(part, tensor)
            codes = np.empty((len(weight), inner // 2), np.uint8)
            scales = np.empty((len(weight), inner // BLOCK_SIZE), np.uint8)
            row = start // (2 * inner)
            pack_into(weight, scale, codes, scales, where=_place(tensor, start))
            yield row, codes.reshape(-1), scales.reshape(-1)

    def _scale(self, tensor: TensorPlan) -> np.float32:
        """The global scale of a tensor's group, from a pass over all its members."""
        if tensor.group not in self._scales:
            from pytest_q3omni.nvfp4.codec import amax

            members = self._groups[tensor.group]
            largest = max(
                float(amax(_rows(part, member), where=_place(member, start)))
                for member in members
                for start, part in self._chunks(member)
            )
            self._scales[tensor.group] = group_scale(largest, members)
        return self._scales[tensor.group]

    def _chunks(self, tensor: TensorPlan) -> Iterator[tuple[int, Bytes]]:
        """(start, bytes) of a source tensor in pieces of at most `chunk` bytes, whole rows for a matrix."""
        total = nbytes(tensor.source)
        row = 2 * tensor.source.shape[1] if tensor.action == "nvfp4" else 1
        step = max(row, self.chunk // row * row)
        for start in range(0, total, step):
            yield start, self.source.read(tensor.source.name, start=start, stop=min(total, start + step))


def _rows(raw: Bytes, tensor: TensorPlan) -> NDArray[Any]:
    """Raw bytes as BF16 rows of a weight, (rows, in)."""
    import ml_dtypes

    rows: NDArray[Any] = raw.view(ml_dtypes.bfloat16).reshape(-1, tensor.source.shape[1])
    return rows


def _place(tensor: TensorPlan, start: int) -> str:
    """The module; with its first row where a chunk does not begin at the top."""
    row = start // (2 * tensor.source.shape[1])
    return f"{tensor.module}, counted from row {row}" if row else tensor.module


def _reserve(descriptor: int, size: int) -> None:
    """Claim the disk space now, so that a full disk is met before the work and not after it."""
    if hasattr(os, "posix_fallocate") and size:
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.ftruncate(descriptor, size)


def _write(descriptor: int, data: Bytes | bytes, offset: int) -> None:
    view = memoryview(data) if isinstance(data, bytes) else data.data
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count
