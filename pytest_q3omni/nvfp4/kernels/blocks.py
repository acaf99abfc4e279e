"""Kernels that work on one block of 16 weights at a time, all 16 lanes at once. PYTEST_DONT_REWRITE

LLVM does not vectorise these loops by itself (nibbles, table look-ups and a reduction in one body): plain loops run at
a seventh of the speed. So each block is written as LLVM vector instructions, which LLVM lowers to AVX2, AVX-512 or
NEON; the numba functions around them only loop. They share a file because numba's cache notices changes of that file
alone, and of none of its imports: after a change to `format.py`, change this file, too.

Arrays are flat in blocks: bits (n, 16) uint16, codes (n, 8) uint8, scales (n,) uint8. Kernels do not check shapes.
"""

from __future__ import annotations

import functools
from itertools import pairwise
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pytest_q3omni.nvfp4 import format as nvfp4
from pytest_q3omni.nvfp4.kernels.compiled import kernel

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_F32, _F64 = ir.FloatType(), ir.DoubleType()
_LANES = nvfp4.BLOCK_SIZE

_BITS = types.Array(types.uint16, 2, "C", readonly=True)
_CODES_IN, _CODES_OUT = types.Array(types.uint8, 2, "C", readonly=True), types.Array(types.uint8, 2, "C")
_SCALES_IN, _SCALES_OUT = types.Array(types.uint8, 1, "C", readonly=True), types.Array(types.uint8, 1, "C")
_SCALE_OF = types.Array(types.uint8, 1, "C", readonly=True)
_THRESHOLDS = types.Array(types.uint32, 2, "C", readonly=True)
_SCALE_VALUES = types.Array(types.float32, 1, "C", readonly=True)
_VALUES_OUT = types.Array(types.float32, 2, "C")

_DOUBLED_VALUES = sum(int(2 * value) << (4 * code) for code, value in enumerate(nvfp4.E2M1_VALUES))
"""Twice each E2M1 magnitude is an integer below 16: all eight fit one 32-bit constant."""

_PREFETCH_BYTES = 2048
"""How far ahead to fetch. A block takes about 50 instructions, too many for the processor to see far beyond it: without
this, a tensor larger than the caches is packed at a third of the speed."""


_ORDINARY = (127 - 50) << 7, (127 + 50) << 7
"""BF16 patterns of 2**-50 and 2**50: between them, squares of weights and what remains of them fit float32."""


@intrinsic  # type: ignore[untyped-decorator]
def _pack_block(_: Any, bits: Any, scale_of: Any, thresholds: Any, codes: Any, scales: Any, block: Any) -> Any:
    """Pack one block; return the BF16 pattern of its largest magnitude."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits_at, scale_of_at, thresholds_at, codes_at, scales_at = _addresses(context, builder, signature, arguments, 5)
        block = arguments[5]
        own = _packed(builder, _load_bits(builder, bits_at(block)), scale_of_at, thresholds_at)
        builder.store(own.scale, scales_at(block))
        _store_vector(builder, own.codes, codes_at(block), align=1)
        return own.amax

    return types.int64(bits, scale_of, thresholds, codes, scales, block), generate


@kernel(types.int64(_BITS, _SCALE_OF, _THRESHOLDS, _CODES_OUT, _SCALES_OUT, types.int64, types.int64))
def pack_blocks(bits: Any, scale_of: Any, thresholds: Any, codes: Any, scales: Any, first: int, last: int) -> Any:
    """Pack blocks `first` to `last` (exclusive) into `codes` and `scales`; return the largest magnitude pattern."""
    top = 0
    for block in range(first, last):
        top = max(top, _pack_block(bits, scale_of, thresholds, codes, scales, block))
    return top


@intrinsic  # type: ignore[untyped-decorator]
def _unpack_block(_: Any, codes: Any, scale: Any, out: Any, block: Any) -> Any:
    """Write `E2M1 * scale`, 16 float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        codes, scale, out, block = arguments
        codes_at = _Addresses(context, builder, signature.args[0], codes)
        out_at = _Addresses(context, builder, signature.args[2], out)
        values = builder.fmul(_decode(builder, codes_at(block)), _splat(builder, scale))
        _store_vector(builder, values, out_at(block), align=4)
        return context.get_dummy_value()

    return types.void(codes, scale, out, block), generate


@kernel(types.void(_CODES_IN, _SCALES_IN, _SCALE_VALUES, _VALUES_OUT, types.int64, types.int64))
def unpack_blocks(codes: Any, scales: Any, scale_values: Any, out: Any, first: int, last: int) -> None:
    """Unpack blocks `first` to `last`; `scale_values` (256,) is E4M3 code -> block scale times global scale."""
    for block in range(first, last):
        _unpack_block(codes, scale_values[scales[block]], out, block)


@intrinsic  # type: ignore[untyped-decorator]
def _block_error(_: Any, bits: Any, codes: Any, scale: Any, block: Any) -> Any:
    """(sum of squared errors, sum of squared weights, largest error, largest weight) of one block.

    The maxima are taken over bit patterns, where NaN is larger than everything.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits, codes, scale, block = arguments
        pattern = _load_bits(builder, _Addresses(context, builder, signature.args[0], bits)(block))
        weights = builder.bitcast(builder.shl(builder.zext(pattern, _vector(_I32)), _constant(_I32, 16)), _vector(_F32))
        values = _decode(builder, _Addresses(context, builder, signature.args[1], codes)(block))
        errors = builder.fsub(weights, builder.fmul(values, _splat(builder, scale)))
        error_bits = builder.and_(builder.bitcast(errors, _vector(_I32)), _constant(_I32, 0x7FFFFFFF))
        largest = _reduce(builder, "umax", error_bits)
        amax = _reduce(builder, "umax", builder.and_(pattern, _constant(_I16, 0x7FFF)))
        amax = builder.shl(builder.zext(amax, _I32), _I32(16))
        results = [_sum_of_squares(builder, errors), _sum_of_squares(builder, weights)]
        results += [builder.fpext(builder.bitcast(bits, _F32), _F64) for bits in (largest, amax)]
        return context.make_tuple(builder, signature.return_type, results)

    return types.UniTuple(types.float64, 4)(bits, codes, scale, block), generate


_error_bound = numba.njit(nvfp4.error_bound)


@kernel(
    types.Tuple((types.float64, types.float64, types.float64, types.int64, types.float64, types.int64))(
        _BITS, _CODES_IN, _SCALES_IN, _SCALE_VALUES, types.float64, types.int64, types.int64
    )
)
def compare_blocks(
    bits: Any, codes: Any, scales: Any, scale_values: Any, global_scale: float, first: int, last: int
) -> Any:
    """Compare blocks with what they were packed from.

    Returns (sum of squared errors, sum of squared weights, worst squared relative error, its block, worst error as a
    share of `format.error_bound`, its block). A block that is not finite counts as infinitely wrong.
    """
    errors = weights = worst = worst_share = 0.0
    worst_block = worst_share_block = first
    for block in range(first, last):
        error, weight, largest, amax = _block_error(bits, codes, scale_values[scales[block]], block)
        errors += error
        weights += weight
        finite = error < np.inf  # false for NaN, too
        if not finite or error > worst * weight:  # seldom, and so is the division
            relative = error / weight if finite and weight > 0 else np.inf
            if relative > worst:
                worst, worst_block = relative, block
        bound = _error_bound(amax, global_scale)
        if not finite or largest > worst_share * bound:
            share = largest / bound if finite else np.inf
            if share > worst_share:
                worst_share, worst_share_block = share, block
    return errors, weights, worst, worst_block, worst_share, worst_share_block


@intrinsic  # type: ignore[untyped-decorator]
def _rederive_four(
    _: Any, bits: Any, scale_of: Any, thresholds: Any, half_values: Any, codes: Any, scales: Any, squares: Any,
    block: Any,
) -> Any:  # fmt: skip
    """Pack four blocks, and write the sums of their squared errors and of their squared weights into `squares` (8,).

    Returns (largest magnitude pattern, smallest one above zero less 1, whether any byte is not the stored one).
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *inputs, codes_at, scales_at, squares_at = _addresses(context, builder, signature, arguments, 7)
        bits_at, scale_of_at, thresholds_at, half_values_at = inputs
        largest, least, differ, sums = _I64(0), _I64(0xFFFF), _I64(0), []
        for number in range(4):
            block = builder.add(arguments[7], _I64(number))
            weights = _load_bits(builder, bits_at(block))
            own = _packed(builder, weights, scale_of_at, thresholds_at)
            largest = _either(builder, ">", own.amax, largest)
            above_zero = builder.and_(builder.sub(own.amax, _I64(1)), _I64(0xFFFF))  # zero becomes the largest
            least = _either(builder, "<", above_zero, least)
            stored = builder.load(builder.bitcast(codes_at(block), _I64.as_pointer()), align=1)
            differ = builder.or_(differ, builder.xor(stored, builder.bitcast(own.codes, _I64)))
            other = builder.xor(own.scale, builder.load(scales_at(block)))
            differ = builder.or_(differ, builder.zext(other, _I64))
            half = builder.load(half_values_at(builder.zext(own.scale, _I64)))
            sums.append(_squares(builder, own, half))
        _store_vector(builder, _sums(builder, sums), squares_at(), align=4)
        return context.make_tuple(builder, signature.return_type, [largest, least, differ])

    arguments = bits, scale_of, thresholds, half_values, codes, scales, squares, block
    return types.UniTuple(types.int64, 3)(*arguments), generate


@kernel(
    types.Tuple((types.int64, types.int64, types.float64, types.float64, types.float64, types.int64))(
        *(_BITS, _SCALE_OF, _THRESHOLDS, _SCALE_VALUES, _CODES_IN, _SCALES_IN, types.int64, types.int64)
    )
)
def rederive_blocks(
    bits: Any, scale_of: Any, thresholds: Any, half_values: Any, codes: Any, scales: Any, first: int, last: int
) -> Any:
    """Pack blocks again, four at a time, and compare bytes and values with what is stored, as long as the bytes agree.

    `half_values` (256,) is E4M3 code -> half of block scale times global scale. Returns (where it stopped, largest
    magnitude pattern) and of the blocks before (sum of squared errors, sum of squared weights, worst squared relative
    error, its block). It stops, too, at a magnitude whose squares float32 cannot hold, and before an incomplete four.
    """
    top, errors, weights, worst, worst_block = 0, 0.0, 0.0, np.float32(0), first
    squares = np.empty(8, np.float32)
    for block in range(first, last - 3, 4):
        largest, least, differ = _rederive_four(bits, scale_of, thresholds, half_values, codes, scales, squares, block)
        if differ != 0 or least < _ORDINARY[0] or largest > _ORDINARY[1]:
            return block, top, errors, weights, worst, worst_block
        top = max(top, largest)
        errors += (squares[0] + squares[1]) + (squares[2] + squares[3])
        weights += (squares[4] + squares[5]) + (squares[6] + squares[7])
        worse = (squares[0] > worst * squares[4]) | (squares[1] > worst * squares[5])
        if worse | (squares[2] > worst * squares[6]) | (squares[3] > worst * squares[7]):
            for number in range(4):
                if squares[number] > worst * squares[4 + number]:
                    worst, worst_block = squares[number] / squares[4 + number], block + number
    return last - (last - first) % 4, top, errors, weights, worst, worst_block


class _Addresses:
    """Address of `array[index]`; indices left out are 0."""

    def __init__(self, context: Any, builder: Any, array_type: Any, array: Any) -> None:
        self._context, self._builder, self._type = context, builder, array_type
        self._array = context.make_array(array_type)(context, builder, array)

    def __call__(self, *index: Any) -> Any:
        index += (_I64(0),) * (self._type.ndim - len(index))
        return cgutils.get_item_pointer(self._context, self._builder, self._type, self._array, index)


def _addresses(context: Any, builder: Any, signature: Any, arguments: Any, count: int) -> list[_Addresses]:
    """Of the first `count` arguments, which are arrays."""
    return [_Addresses(context, builder, *pair) for pair in zip(signature.args[:count], arguments[:count], strict=True)]


class _Packed(NamedTuple):
    """A block in registers, packed: its magnitudes (16 x i16), the largest (i64), E4M3 code, 8 bytes of E2M1 codes, and
    twice the magnitude of each (16 x i16)."""

    magnitudes: Any
    amax: Any
    scale: Any
    codes: Any
    doubled: Any


def _packed(builder: Any, weights: Any, scale_of_at: _Addresses, thresholds_at: _Addresses) -> _Packed:
    magnitudes = builder.and_(weights, _constant(_I16, 0x7FFF))
    amax = builder.zext(_reduce(builder, "umax", magnitudes), _I64)
    scale = builder.load(scale_of_at(amax))
    row = builder.zext(scale, _I64)

    def below(index: int) -> Any:  # -1 in each lane whose magnitude is below threshold `index`
        pairs = _splat(builder, builder.load(thresholds_at(row, _I64(index))), _LANES // 2)
        threshold = builder.bitcast(pairs, _vector(_I16))  # both sides are below 2**15, and signed compares are cheaper
        return builder.sext(builder.icmp_signed(">", threshold, magnitudes), _vector(_I16))

    *codes_below, sign_below = map(below, range(8))
    total = functools.reduce(builder.add, codes_below)
    sign = builder.and_(builder.lshr(weights, _constant(_I16, 12)), _constant(_I16, nvfp4.SIGN_BIT))
    four_bits = builder.or_(
        builder.add(total, _constant(_I16, len(codes_below))), builder.and_(sign, builder.not_(sign_below))
    )
    pairs = builder.bitcast(four_bits, _vector(_I32, _LANES // 2))  # low half: even column
    codes = builder.or_(pairs, builder.lshr(pairs, _constant(_I32, 12, _LANES // 2)))
    doubled = builder.add(total, _constant(_I16, int(2 * nvfp4.E2M1_MAX)))
    for each, (lower, upper) in zip(codes_below, pairwise(nvfp4.E2M1_VALUES), strict=True):
        more = int(2 * (upper - lower)) - 1  # than the 1 that `total` takes away
        if more:
            doubled = builder.add(doubled, builder.and_(each, _constant(_I16, -more & 0xFFFF)))
    return _Packed(magnitudes, amax, scale, builder.trunc(codes, _vector(_I8, _LANES // 2)), doubled)


def _squares(builder: Any, own: _Packed, half_value: Any) -> Any:
    """4 lanes that sum up to the squared errors of a block, and 4 that sum up to its squared weights, float32.

    Of magnitudes: what packing gives has the sign of the weight, or is zero.
    """
    half = _LANES // 2
    integers, floats = _vector(_I32, half), _vector(_F32, half)
    weights, codes = builder.bitcast(own.magnitudes, integers), builder.bitcast(own.doubled, integers)
    upper, lower = _constant(_I32, 0xFFFF0000, half), _constant(_I32, 0xFFFF, half)
    sixteen, scale = _constant(_I32, 16, half), _splat(builder, half_value, half)
    columns = (
        (builder.shl(weights, sixteen), builder.and_(codes, lower)),  # even
        (builder.and_(weights, upper), builder.lshr(codes, sixteen)),
    )
    error_squares, weight_squares = _constant(_F32, 0.0, half), _constant(_F32, 0.0, half)
    for weight, code in columns:
        weight = builder.bitcast(weight, floats)
        error = builder.fsub(weight, builder.fmul(builder.sitofp(code, floats), scale))
        error_squares = _multiply_add(builder, error, error, error_squares)
        weight_squares = _multiply_add(builder, weight, weight, weight_squares)
    return _add_lanes(builder, error_squares, weight_squares, [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15])


def _sums(builder: Any, blocks: list[Any]) -> Any:
    """The sums over the lanes of four results of `_squares`: 4 of errors, 4 of weights."""
    left, right = [0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15]
    first, second, third, fourth = blocks
    one, other = _add_lanes(builder, first, second, left, right), _add_lanes(builder, third, fourth, left, right)
    return _add_lanes(builder, one, other, [0, 2, 8, 10, 4, 6, 12, 14], [1, 3, 9, 11, 5, 7, 13, 15])


def _add_lanes(builder: Any, one: Any, other: Any, left: list[int], right: list[int]) -> Any:
    """Lanes `left` of two vectors put together, plus lanes `right`."""
    lanes = [builder.shuffle_vector(one, other, _constant(_I32, chosen)) for chosen in (left, right)]
    return builder.fadd(*lanes)


def _multiply_add(builder: Any, one: Any, other: Any, added: Any) -> Any:
    """In one step and with one rounding where the processor can."""
    function = ir.FunctionType(added.type, [added.type] * 3)
    name = f"llvm.fmuladd.v{added.type.count}f32"
    return builder.call(cgutils.get_or_insert_function(builder.module, function, name), [one, other, added])


def _either(builder: Any, order: str, one: Any, other: Any) -> Any:
    """`one` where it is `order` than the other, of two signed integers."""
    return builder.select(builder.icmp_signed(order, one, other), one, other)


def _vector(element: Any, lanes: int = _LANES) -> Any:
    return ir.VectorType(element, lanes)


def _constant(element: Any, values: Any, lanes: int = _LANES) -> Any:
    """A constant vector: one value for all lanes, or one for each."""
    values = list(values) if hasattr(values, "__iter__") else [values] * lanes
    return ir.Constant(_vector(element, len(values)), values)


def _splat(builder: Any, scalar: Any, lanes: int = _LANES) -> Any:
    undefined = ir.Constant(_vector(scalar.type, lanes), ir.Undefined)
    first = builder.insert_element(undefined, scalar, _I32(0))
    return builder.shuffle_vector(first, undefined, _constant(_I32, 0, lanes))


def _load_bits(builder: Any, address: Any) -> Any:
    """16 BF16 patterns, and a hint to fetch those further on (which may lie past the end: a hint never faults)."""
    ahead = builder.gep(builder.bitcast(address, _I8.as_pointer()), [_I32(_PREFETCH_BYTES)])
    signature = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
    prefetch = cgutils.get_or_insert_function(builder.module, signature, "llvm.prefetch.p0")
    builder.call(prefetch, [ahead, _I32(0), _I32(3), _I32(1)])  # for reading, into every cache, data
    return builder.load(builder.bitcast(address, _vector(_I16).as_pointer()), align=2)


def _store_vector(builder: Any, value: Any, address: Any, *, align: int) -> None:
    builder.store(value, builder.bitcast(address, value.type.as_pointer()), align=align)


def _decode(builder: Any, address: Any) -> Any:
    """The 16 E2M1 values of a block, float32, without any scale. Code 8 gives +0.0, as in ModelOpt's table."""
    eight_bytes = builder.load(builder.bitcast(address, _vector(_I8, 8).as_pointer()), align=1)
    eight_bytes = builder.zext(eight_bytes, _vector(_I32, 8))
    lanes = builder.shuffle_vector(eight_bytes, eight_bytes, _constant(_I32, [lane // 2 for lane in range(_LANES)]))
    lanes = builder.lshr(lanes, _constant(_I32, [0, 4] * (_LANES // 2)))
    shift = builder.shl(builder.and_(lanes, _constant(_I32, 7)), _constant(_I32, 2))
    doubled = builder.and_(builder.lshr(_constant(_I32, _DOUBLED_VALUES), shift), _constant(_I32, 15))
    negative = builder.ashr(builder.shl(lanes, _constant(_I32, 28)), _constant(_I32, 31))  # -1 where bit 3 is set
    signed = builder.sub(builder.xor(doubled, negative), negative)
    return builder.fmul(builder.sitofp(signed, _vector(_F32)), _constant(_F32, 0.5))


def _sum_of_squares(builder: Any, lanes: Any) -> Any:
    """In float64, where no square of a float32 overflows or vanishes."""
    wide = builder.fpext(lanes, _vector(_F64))
    return _reduce(builder, "fadd", builder.fmul(wide, wide), _F64(-0.0))


def _reduce(builder: Any, name: str, vector: Any, *start: Any) -> Any:
    """Call `llvm.vector.reduce.*`; a sum may be taken in any order."""
    element = vector.type.element
    kind = f"i{element.width}" if isinstance(element, ir.IntType) else "f64"
    signature = ir.FunctionType(element, [*(value.type for value in start), vector.type])
    function = f"llvm.vector.reduce.{name}.v{vector.type.count}{kind}"
    function = cgutils.get_or_insert_function(builder.module, signature, function)
    return builder.call(function, [*start, vector], fastmath=("reassoc",) if start else ())
