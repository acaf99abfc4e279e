"""Kernels that work on one block of 16 weights at a time, all 16 lanes at once. PYTEST_DONT_REWRITE

LLVM does not vectorise these loops by itself (nibbles, table look-ups and a reduction in one body), so each block is
written as LLVM vector instructions: portable, LLVM lowers them to AVX2, AVX-512 or NEON. The numba functions around them
only loop. Everything is in one file because numba's cache notices changes of that file alone.

Arrays are flat in blocks: bits (n, 16) uint16, codes (n, 8) uint8, scales (n,) uint8. Kernels do not check shapes.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pytest_q3omni.nvfp4.kernels.compiled import kernel

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_F32, _F64 = ir.FloatType(), ir.DoubleType()
_LANES = 16

_BITS = types.Array(types.uint16, 2, "C", readonly=True)
_TABLE = types.Array(types.uint8, 1, "C", readonly=True)
_THRESHOLDS = types.Array(types.uint16, 2, "C", readonly=True)
_CODES, _SCALES = types.Array(types.uint8, 2, "C"), types.Array(types.uint8, 1, "C")
_CODES_IN, _SCALES_IN = types.Array(types.uint8, 2, "C", readonly=True), types.Array(types.uint8, 1, "C", readonly=True)


def _vector(element: Any, lanes: int = _LANES) -> Any:
    return ir.VectorType(element, lanes)


def _constant(element: Any, values: Any, lanes: int = _LANES) -> Any:
    """A constant vector: one value for all lanes, or one for each."""
    values = list(values) if hasattr(values, "__iter__") else [values] * lanes
    return ir.Constant(_vector(element, len(values)), values)


def _splat(builder: Any, scalar: Any, lanes: int = _LANES) -> Any:
    undefined = ir.Constant(_vector(scalar.type, lanes), ir.Undefined)
    return builder.shuffle_vector(builder.insert_element(undefined, scalar, _I32(0)), undefined, _constant(_I32, 0, lanes))


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, *index: Any) -> Any:
    """Address of `array[index]`, trailing indices 0."""
    index = tuple(index) + (_I64(0),) * (array_type.ndim - len(index))
    data = context.make_array(array_type)(context, builder, array)
    return cgutils.get_item_pointer(context, builder, array_type, data, index, wraparound=False)


def _load_vector(builder: Any, pointer: Any, vector: Any, *, align: int) -> Any:
    return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=align)


def _store_vector(builder: Any, value: Any, pointer: Any, *, align: int) -> None:
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=align)


def _reduce(builder: Any, name: str, vector: Any, *start: Any) -> Any:
    """Call `llvm.vector.reduce.*`; a sum may be taken in any order."""
    letter = "i" if isinstance(vector.type.element, ir.IntType) else "f"
    width = vector.type.element.width if letter == "i" else {_F32: 32, _F64: 64}[vector.type.element]
    signature = ir.FunctionType(vector.type.element, [*(value.type for value in start), vector.type])
    intrinsic_name = f"llvm.vector.reduce.{name}.v{vector.type.count}{letter}{width}"
    function = cgutils.get_or_insert_function(builder.module, signature, intrinsic_name)
    return builder.call(function, [*start, vector], fastmath=("reassoc",) if start else ())


@intrinsic  # type: ignore[untyped-decorator]
def _pack_block(_: Any, bits: Any, scale_of: Any, thresholds: Any, codes: Any, scales: Any, block: Any) -> Any:
    """Pack one block; return the BF16 pattern of its largest magnitude."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits_t, scale_of_t, thresholds_t, codes_t, scales_t, _ = signature.args
        bits, scale_of, thresholds, codes, scales, block = arguments
        weights = _load_vector(builder, _pointer(context, builder, bits_t, bits, block), _vector(_I16), align=2)
        magnitudes = builder.and_(weights, _constant(_I16, 0x7FFF))
        amax = builder.zext(_reduce(builder, "umax", magnitudes), _I64)
        scale = builder.load(_pointer(context, builder, scale_of_t, scale_of, amax))
        builder.store(scale, _pointer(context, builder, scales_t, scales, block))
        row = builder.zext(scale, _I64)

        def reaches(index: int) -> Any:  # all ones where the magnitude is at least threshold `index`, which is -1
            threshold = builder.load(_pointer(context, builder, thresholds_t, thresholds, row, _I64(index)))
            return builder.sext(builder.icmp_unsigned(">=", magnitudes, _splat(builder, threshold)), _vector(_I16))

        negated = _constant(_I16, 0)
        for index in range(7):
            negated = builder.add(negated, reaches(index))
        sign = builder.and_(builder.lshr(weights, _constant(_I16, 12)), _constant(_I16, 8))
        four_bits = builder.or_(builder.neg(negated), builder.and_(sign, reaches(7)))
        even = builder.shuffle_vector(four_bits, four_bits, _constant(_I32, range(0, _LANES, 2)))
        odd = builder.shuffle_vector(four_bits, four_bits, _constant(_I32, range(1, _LANES, 2)))
        both = builder.or_(even, builder.shl(odd, _constant(_I16, 4, 8)))
        _store_vector(
            builder, builder.trunc(both, _vector(_I8, 8)), _pointer(context, builder, codes_t, codes, block), align=1
        )
        return amax

    return types.int64(bits, scale_of, thresholds, codes, scales, block), generate


@kernel(types.int64(_BITS, _TABLE, _THRESHOLDS, _CODES, _SCALES, types.int64, types.int64))
def pack_blocks(bits: Any, scale_of: Any, thresholds: Any, codes: Any, scales: Any, first: int, last: int) -> Any:
    """Pack blocks `first` to `last` (exclusive) into `codes` and `scales`; return the largest magnitude pattern seen."""
    top = 0
    for block in range(first, last):
        top = max(top, _pack_block(bits, scale_of, thresholds, codes, scales, block))
    return top
