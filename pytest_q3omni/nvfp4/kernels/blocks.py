"""Kernels that work on one block of 16 weights at a time, all 16 lanes at once. PYTEST_DONT_REWRITE

LLVM does not vectorise these loops by itself (nibbles, table look-ups and a reduction in one body): plain loops run at
a seventh of the speed. So each block is written as LLVM vector instructions, which LLVM lowers to AVX2, AVX-512 or
NEON; the numba functions around them only loop. They share a file because numba's cache notices changes of that file
alone, and of none of its imports: after a change to `format.py`, change this file, too.

Arrays are flat in blocks: bits (n, 16) uint16, codes (n, 8) uint8, scales (n,) uint8. Kernels do not check shapes.
"""

from __future__ import annotations

from typing import Any

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
_THRESHOLDS = types.Array(types.uint16, 2, "C", readonly=True)
_SCALE_VALUES = types.Array(types.float32, 1, "C", readonly=True)
_VALUES_OUT = types.Array(types.float32, 2, "C")

_DOUBLED_VALUES = sum(int(2 * value) << (4 * code) for code, value in enumerate(nvfp4.E2M1_VALUES))
"""Twice each E2M1 magnitude is an integer below 16: all eight fit one 32-bit constant."""

_PREFETCH_BYTES = 2048
"""How far ahead to fetch. A block takes about 50 instructions, too many for the processor to see far beyond it: without
this, a tensor larger than the caches is packed at a third of the speed."""


@intrinsic  # type: ignore[untyped-decorator]
def _pack_block(_: Any, bits: Any, scale_of: Any, thresholds: Any, codes: Any, scales: Any, block: Any) -> Any:
    """Pack one block; return the BF16 pattern of its largest magnitude."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits_at, scale_of_at, thresholds_at, codes_at, scales_at = (
            _Addresses(context, builder, *pair) for pair in zip(signature.args[:5], arguments[:5], strict=True)
        )
        block = arguments[5]
        weights = _load_bits(builder, bits_at(block))
        magnitudes = builder.and_(weights, _constant(_I16, 0x7FFF))
        amax = builder.zext(_reduce(builder, "umax", magnitudes), _I64)
        scale = builder.load(scale_of_at(amax))
        builder.store(scale, scales_at(block))
        row = builder.zext(scale, _I64)

        def reaches(index: int) -> Any:  # -1 in each lane whose magnitude is at least threshold `index`
            threshold = _splat(builder, builder.load(thresholds_at(row, _I64(index))))
            return builder.sext(builder.icmp_unsigned(">=", magnitudes, threshold), _vector(_I16))

        negated = _constant(_I16, 0)
        for index in range(7):
            negated = builder.add(negated, reaches(index))
        sign = builder.and_(builder.lshr(weights, _constant(_I16, 12)), _constant(_I16, nvfp4.SIGN_BIT))
        four_bits = builder.or_(builder.neg(negated), builder.and_(sign, reaches(7)))
        even = builder.shuffle_vector(four_bits, four_bits, _constant(_I32, range(0, _LANES, 2)))
        odd = builder.shuffle_vector(four_bits, four_bits, _constant(_I32, range(1, _LANES, 2)))
        both = builder.or_(even, builder.shl(odd, _constant(_I16, 4, 8)))
        _store_vector(builder, builder.trunc(both, _vector(_I8, 8)), codes_at(block), align=1)
        return amax

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


class _Addresses:
    """Address of `array[index]`; indices left out are 0."""

    def __init__(self, context: Any, builder: Any, array_type: Any, array: Any) -> None:
        self._context, self._builder, self._type = context, builder, array_type
        self._array = context.make_array(array_type)(context, builder, array)

    def __call__(self, *index: Any) -> Any:
        index += (_I64(0),) * (self._type.ndim - len(index))
        return cgutils.get_item_pointer(self._context, self._builder, self._type, self._array, index)


def _vector(element: Any, lanes: int = _LANES) -> Any:
    return ir.VectorType(element, lanes)


def _constant(element: Any, values: Any, lanes: int = _LANES) -> Any:
    """A constant vector: one value for all lanes, or one for each."""
    values = list(values) if hasattr(values, "__iter__") else [values] * lanes
    return ir.Constant(_vector(element, len(values)), values)


def _splat(builder: Any, scalar: Any) -> Any:
    undefined = ir.Constant(_vector(scalar.type), ir.Undefined)
    first = builder.insert_element(undefined, scalar, _I32(0))
    return builder.shuffle_vector(first, undefined, _constant(_I32, 0))


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
