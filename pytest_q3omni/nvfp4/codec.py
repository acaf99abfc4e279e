"""Pack BF16 weights into NVFP4 and back, on numpy arrays: bit for bit what `reference.py` says, at memory-like speed.

`pack_tensor` and `unpack_tensor` are the public pair. A packer that streams uses `amax` (over a fusion group),
`global_scale_for` and `pack_into` on preallocated buffers, a few rows at a time if it likes: rows are independent. A
verifier uses `block_errors`, or `rederive.py`. All here use every core that the process may use, and may be called from
several threads.

Packing does integer arithmetic only and is immune to `torch.set_flush_denormal(True)`. Unpacking is not: values below
`2**-126` then become zero.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import numpy.typing as npt

from pytest_q3omni.errors import FormatError
from pytest_q3omni.nvfp4 import format as nvfp4
from pytest_q3omni.nvfp4.kernels import blocks
from pytest_q3omni.nvfp4.kernels.tables import INFINITY_BITS, tables_for
from pytest_q3omni.nvfp4.kernels.threads import over_ranges

Array = npt.NDArray[Any]

_MAGNITUDE = 0x7FFF  # a BF16 pattern without its sign bit; orders like the magnitude, Inf and NaN above all


class Packed(NamedTuple):
    """One packed weight `(out, in)`. A slice of rows of `codes` and `block_scale` is a packed weight, too."""

    codes: npt.NDArray[np.uint8]
    """`(out, in / 2)`; the low nibble is the even column."""
    block_scale: Array
    """`(out, in / 16)`, `ml_dtypes.float8_e4m3fn`."""
    global_scale: np.float32


class BlockErrors(NamedTuple):
    """How far a packed weight is from its source. Infinite where either side holds NaN or Inf."""

    relative: float
    """`|weight - unpacked| / |weight|`, Frobenius norms of the tensor. Plain NVFP4 of trained weights: 0.09 to 0.10."""
    worst: float
    """The same of the worst block."""
    worst_block: tuple[int, int]
    """Its (row, block in the row)."""
    worst_share: float
    """Largest error as a share of `format.error_bound`; at most 1 for anything that follows the rules."""
    worst_share_block: tuple[int, int]


def amax(weight: Array, *, where: str = "") -> np.float32:
    """Largest magnitude of a BF16 tensor of any shape.

    Raises:
        FormatError: not BF16, empty, NaN or Inf (the first position is named).
    """
    bits = bit_patterns(weight, where)
    if bits.size == 0:
        raise FormatError(f"an empty tensor, shape {weight.shape}", where=where)
    flat = bits.reshape(-1)

    def largest(first: int, last: int) -> int:
        part = flat[first * nvfp4.BLOCK_SIZE : last * nvfp4.BLOCK_SIZE]
        # as int16 the largest is the largest positive weight; as uint16, where there is a sign bit, the most negative
        return max(int(part.view(np.int16).max()), int(part.max()) & _MAGNITUDE)

    pattern = max(over_ranges(largest, -(-flat.size // nvfp4.BLOCK_SIZE)))
    _check_finite(pattern, bits, where)
    return np.float32(np.uint16(pattern).view(ml_dtypes.bfloat16))


def global_scale_for(largest: float | np.float32, *, where: str = "") -> np.float32:
    """Global scale of a tensor, or a fusion group, with this amax: `amax / 2688` in float32; 1.0 where all is zero.

    Raises:
        FormatError: NaN, Inf or negative.
    """
    return np.float32(1) if largest == 0 else check_scale(np.float32(largest) / np.float32(nvfp4.SCALE_DIVISOR), where)


def pack_tensor(weight: Array, global_scale: float | np.float32 | None = None, *, where: str = "") -> Packed:
    """Pack one BF16 weight `(out, in)`; without `global_scale` with the one of its own amax.

    An all-zero tensor packs to codes 0, block scales 1.0 and global scale 1.0.

    Raises:
        FormatError: not BF16, not two dimensions, empty, `in` no multiple of 16, NaN or Inf in `weight` (the first
            position is named), or a global scale that is not finite and positive in float32. `where` opens the message.
    """
    out_features, in_features = nvfp4.check_shape(weight.shape, where=where)
    scale = global_scale_for(amax(weight, where=where)) if global_scale is None else check_scale(global_scale, where)
    codes = np.empty((out_features, in_features // 2), np.uint8)
    block_scale = np.empty((out_features, in_features // nvfp4.BLOCK_SIZE), ml_dtypes.float8_e4m3fn)
    pack_into(weight, scale, codes, block_scale.view(np.uint8), where=where)
    return Packed(codes, block_scale, scale)


def pack_into(
    weight: Array,
    global_scale: float | np.float32,
    codes_out: npt.NDArray[np.uint8],
    scales_out: npt.NDArray[np.uint8],
    *,
    where: str = "",
) -> None:
    """Pack `weight` `(out, in)` into buffers: `codes_out` uint8 `(out, in / 2)`, `scales_out` uint8 `(out, in / 16)`.

    Raises:
        FormatError: as `pack_tensor`; or a buffer of another shape or dtype, or not contiguous. After NaN or Inf the
            buffers hold rubbish.
    """
    out_features, in_features = nvfp4.check_shape(weight.shape, where=where)
    bits = bit_patterns(weight, where)
    _check_buffer(codes_out, (out_features, in_features // 2), np.uint8, "codes_out")
    _check_buffer(scales_out, (out_features, in_features // nvfp4.BLOCK_SIZE), np.uint8, "scales_out")
    tables = tables_for(float(check_scale(global_scale, where)))
    by_block = bits.reshape(-1, nvfp4.BLOCK_SIZE)
    codes, scales = codes_out.reshape(-1, nvfp4.BLOCK_SIZE // 2), scales_out.reshape(-1)

    def pack(first: int, last: int) -> int:
        return int(blocks.pack_blocks(by_block, *tables, codes, scales, first, last))

    _check_finite(max(over_ranges(pack, len(by_block))), bits, where)


def unpack_tensor(packed: Packed, *, where: str = "") -> npt.NDArray[np.float32]:
    """The weight that `packed` stands for, float32 `(out, in)`. NaN and infinite scales propagate.

    Raises:
        FormatError: codes and scales of shapes or dtypes that do not belong together.
    """
    out_features, in_features = check_packed(packed, where)
    out = np.empty((out_features, in_features), np.float32)
    unpack_into(packed, out, where=where)
    return out


def unpack_into(packed: Packed, out: npt.NDArray[np.float32], *, where: str = "") -> None:
    """Unpack into a float32 buffer `(out, in)`.

    Raises:
        FormatError: as `unpack_tensor`; or a buffer of another shape or dtype, or not contiguous.
    """
    _check_buffer(out, check_packed(packed, where), np.float32, "out")
    codes, scales = in_blocks(packed)
    values, by_block = scale_values(packed.global_scale), out.reshape(-1, nvfp4.BLOCK_SIZE)
    over_ranges(lambda first, last: blocks.unpack_blocks(codes, scales, values, by_block, first, last), len(by_block))


def block_errors(weight: Array, packed: Packed, *, where: str = "") -> BlockErrors:
    """Compare a packed weight with its BF16 source in one pass, without unpacking it into memory.

    Raises:
        FormatError: shapes or dtypes that do not belong together, or a global scale that is not finite and positive.
    """
    shape = check_packed(packed, where)
    if weight.shape != shape:
        raise FormatError(f"a source of shape {weight.shape}", where=where, expected=f"{shape}, as packed")
    by_block = bit_patterns(weight, where).reshape(-1, nvfp4.BLOCK_SIZE)
    codes, scales = in_blocks(packed)
    values, scale = scale_values(packed.global_scale), float(check_scale(packed.global_scale, where))

    def compare(first: int, last: int) -> tuple[float, float, float, int, float, int]:
        result: tuple[float, float, float, int, float, int] = blocks.compare_blocks(
            by_block, codes, scales, values, scale, first, last
        )
        return result

    parts = over_ranges(compare, len(by_block))
    errors, weights = sum(part[0] for part in parts), sum(part[1] for part in parts)
    worst, worst_block = max((part[2:4] for part in parts), key=lambda pair: pair[0])
    share, share_block = max((part[4:6] for part in parts), key=lambda pair: pair[0])
    relative = norm_ratio(errors, weights)
    per_row = shape[1] // nvfp4.BLOCK_SIZE
    return BlockErrors(relative, worst**0.5, divmod(worst_block, per_row), share, divmod(share_block, per_row))


def norm_ratio(errors: float, weights: float) -> float:
    """Square root of the ratio of two sums of squares; infinite where that is no number."""
    if errors == 0:
        return 0.0
    return math.sqrt(errors / weights) if errors < math.inf and weights > 0 else math.inf


def bit_patterns(weight: Array, where: str) -> npt.NDArray[np.uint16]:
    """Bit patterns of BF16, contiguous and aligned: a view where the array already is."""
    if weight.dtype != ml_dtypes.bfloat16:
        raise FormatError(f"a tensor of dtype {weight.dtype}", where=where, expected="bfloat16 (ml_dtypes)")
    return np.require(weight, requirements=["C", "A"]).view(np.uint16)


def _check_finite(pattern: int, bits: npt.NDArray[np.uint16], where: str) -> None:
    if pattern < INFINITY_BITS:
        return
    bad = (bits & _MAGNITUDE) >= INFINITY_BITS
    position = tuple(int(index) for index in np.unravel_index(int(bad.argmax()), bits.shape))
    raise FormatError(
        f"{bits[position].view(ml_dtypes.bfloat16)} at {position}, the first of {np.count_nonzero(bad)} such values",
        where=where,
        expected="finite weights",
        fix="the source tensor is damaged: download it again or leave it out",
    )


def check_scale(global_scale: float | np.float32, where: str) -> np.float32:
    """A global scale as float32, finite and positive."""
    with np.errstate(over="ignore"):
        scale = np.float32(global_scale)
    if not (scale > 0 and np.isfinite(scale)):
        raise FormatError(f"global scale {global_scale}", where=where, expected="a finite float32 above 0")
    return scale


def check_packed(packed: Packed, where: str) -> tuple[int, int]:
    """`(out, in)` of a packed weight."""
    codes, scales = packed.codes, packed.block_scale
    if codes.dtype != np.uint8 or scales.dtype != ml_dtypes.float8_e4m3fn:
        raise FormatError(
            f"codes of dtype {codes.dtype} with block scales of dtype {scales.dtype}",
            where=where,
            expected="uint8 and float8_e4m3fn (ml_dtypes)",
        )
    shape = nvfp4.check_shape((*codes.shape[:-1], 2 * codes.shape[-1]) if codes.ndim else (), where=where)
    expected = (shape[0], shape[1] // nvfp4.BLOCK_SIZE)
    if scales.shape != expected:
        raise FormatError(f"block scales of shape {scales.shape}", where=where, expected=f"{expected} for {shape}")
    return shape


def in_blocks(packed: Packed) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Codes (n, 8) and scales (n,) by block, contiguous."""
    codes = np.require(packed.codes, requirements=["C"]).reshape(-1, nvfp4.BLOCK_SIZE // 2)
    return codes, np.require(packed.block_scale, requirements=["C"]).view(np.uint8).reshape(-1)


def scale_values(global_scale: float | np.float32) -> npt.NDArray[np.float32]:
    """E4M3 code -> block scale times global scale, float32 (256,)."""
    every_code = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        values: npt.NDArray[np.float32] = every_code * np.float32(global_scale)
    return values


def _check_buffer(buffer: Array, shape: tuple[int, int], dtype: npt.DTypeLike, name: str) -> None:
    flags = buffer.flags
    if buffer.shape != shape or buffer.dtype != dtype or not (flags.c_contiguous and flags.writeable and flags.aligned):
        raise FormatError(
            f"{name} is {buffer.dtype} {buffer.shape}, contiguous: {flags.c_contiguous}, writable: {flags.writeable}",
            expected=f"a writable, contiguous {np.dtype(dtype)} array of shape {shape}",
        )
