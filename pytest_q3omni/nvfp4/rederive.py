"""A packed weight beside what packing its source gives: bytes and errors, in one pass over both, rows by rows.

Where the stored bytes are what packing gives, the errors follow from the registers in which it just happened; only
where they are not, the stored bytes are unpacked. So a sound checkpoint is compared at about the rate it was packed.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from pytest_q3omni.errors import FormatError
from pytest_q3omni.nvfp4.codec import (
    BlockErrors,
    Packed,
    bit_patterns,
    check_packed,
    check_scale,
    in_blocks,
    norm_ratio,
    scale_values,
)
from pytest_q3omni.nvfp4.format import BLOCK_SIZE
from pytest_q3omni.nvfp4.kernels import blocks
from pytest_q3omni.nvfp4.kernels.tables import INFINITY_BITS, Tables, tables_for

Array = npt.NDArray[Any]

_STEP = 16_384
"""Blocks of one call: 512 KiB of BF16, which stay in a core's cache should they be looked at again."""


class Rederived:
    """Compares the rows of one packed weight with their source, in order and in the calling thread alone.

    The weight is packed with the stored global scale. Whether that is the scale that packing would give is for the
    caller to ask: see `amax`.
    """

    def __init__(
        self, in_features: int, global_scale: float | np.float32, tables: Tables | None = None, *, where: str = ""
    ) -> None:
        """A weight with rows of `in_features`; `tables` of another packer's rules than ModelOpt's.

        Raises:
            FormatError: a global scale that is not finite and positive in float32. `where` opens the message.
        """
        self.global_scale, self._per_row, self._where = (
            check_scale(global_scale, where),
            in_features // BLOCK_SIZE,
            where,
        )
        self._tables = tables_for(float(self.global_scale)) if tables is None else tables
        self._values = scale_values(self.global_scale)
        self._half_values = self._values * np.float32(0.5)
        self._seen, self._largest = 0, 0
        self._errors = self._weights = self._worst = self._share = 0.0
        self._worst_block = self._share_block = 0
        self.differing = 0
        """Blocks whose codes or scale are not what packing gives."""
        self._first = -1

    def add(self, weight: Array, packed: Packed) -> None:
        """Compare the next rows: BF16 `(rows, in)`, any values, and the same rows as stored.

        Raises:
            FormatError: shapes or dtypes that do not belong together.
        """
        shape = check_packed(packed, self._where)
        if weight.shape != shape or shape[1] != self._per_row * BLOCK_SIZE:
            expected = f"{(shape[0], self._per_row * BLOCK_SIZE)}, as packed"
            raise FormatError(f"a source of shape {weight.shape}", where=self._where, expected=expected)
        bits = bit_patterns(weight, self._where).reshape(-1, BLOCK_SIZE)
        codes, scales = in_blocks(packed)
        for first in range(0, len(bits), _STEP):
            part = slice(first, first + _STEP)
            same = self._as_long_as_same(bits[part], codes[part], scales[part])
            rest = slice(first + same, first + _STEP)
            if len(bits[rest]):
                self._one_by_one(bits[rest], codes[rest], scales[rest])

    def _as_long_as_same(self, bits: Array, codes: Array, scales: Array) -> int:
        """Take in blocks until one is not what packing gives; how many."""
        same, largest, errors, weights, worst, worst_block = blocks.rederive_blocks(
            bits, *self._tables, self._half_values, codes, scales, 0, len(bits)
        )
        self._take(same, largest, (errors, weights, worst, worst_block, 0.0, 0))
        return int(same)

    def _one_by_one(self, bits: Array, codes: Array, scales: Array) -> None:
        own_codes, own_scales = np.empty_like(codes), np.empty_like(scales)
        largest = blocks.pack_blocks(bits, *self._tables, own_codes, own_scales, 0, len(bits))
        differ = (own_codes.view(np.uint64)[:, 0] != np.ascontiguousarray(codes).view(np.uint64)[:, 0]) | (
            own_scales != scales
        )
        count = int(np.count_nonzero(differ))
        if count and not self.differing:
            self._first = self._seen + int(differ.argmax())
        self.differing += count
        found = blocks.compare_blocks(bits, codes, scales, self._values, float(self.global_scale), 0, len(bits))
        self._take(len(bits), largest, found)

    def _take(self, count: int, largest: int, found: tuple[float, float, float, int, float, int]) -> None:
        errors, weights, worst, worst_block, share, share_block = found
        self._largest = max(self._largest, largest)
        self._errors, self._weights = self._errors + errors, self._weights + weights
        if worst > self._worst:
            self._worst, self._worst_block = worst, self._seen + worst_block
        if share > self._share:
            self._share, self._share_block = share, self._seen + share_block
        self._seen += count

    @property
    def amax(self) -> float:
        """Largest magnitude of the source; infinite where it holds NaN or Inf."""
        finite = self._largest < INFINITY_BITS
        return float(np.uint16(self._largest).view(ml_dtypes.bfloat16)) if finite else float("inf")

    @property
    def first_differing(self) -> tuple[int, int] | None:
        """(row, block in the row) of the first block that is not what packing gives."""
        return divmod(self._first, self._per_row) if self.differing else None

    @property
    def errors(self) -> BlockErrors:
        """As `block_errors`, but `worst_share` is at least the largest above 1: what is exactly as packed is within the
        bound, and not looked at."""
        relative = norm_ratio(self._errors, self._weights)
        worst, share = divmod(self._worst_block, self._per_row), divmod(self._share_block, self._per_row)
        return BlockErrors(relative, float(self._worst) ** 0.5, worst, self._share, share)
