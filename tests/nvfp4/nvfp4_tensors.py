"""Weights that are hard to pack, by class: one generator each, `(rng, rows, columns) -> bfloat16 (rows, columns)`."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import numpy.typing as npt

from pytest_q3omni.nvfp4 import format as nvfp4

Bits = npt.NDArray[np.uint16]
Generator = Callable[[np.random.Generator, int, int], np.ndarray]

E4M3_VALUES = np.arange(1, nvfp4.E4M3_MAX_CODE + 1, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float64)


def finite(bits: Bits) -> np.ndarray:
    """BF16 patterns with Inf and NaN turned into the largest exponent below them."""
    return np.where((bits & 0x7F80) == 0x7F80, bits & 0xFF7F, bits).astype(np.uint16).view(ml_dtypes.bfloat16)


def bf16(values: np.ndarray, *, exact: bool = False) -> np.ndarray:
    rounded = values.astype(np.float32).astype(ml_dtypes.bfloat16)
    assert not exact or (rounded.astype(np.float64) == values).all(), "this class is meant to be exact in BF16"
    return rounded


def signs(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.choice([-1.0, 1.0], shape)


def trained(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    return bf16(rng.standard_normal((rows, columns)) * 0.02)


def any_finite_pattern(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    return finite(rng.integers(0, 1 << 16, (rows, columns), dtype=np.uint16))


def ties(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Every quotient a tie: bounds times `s * 2**k`, with one 6 in each block and the natural global scale `2**k`."""
    blocks = rng.choice(nvfp4.E2M1_BOUNDS, (rows, columns // 16, 16))
    blocks[..., 0] = 6
    scale = rng.choice(E4M3_VALUES[8:], (rows, columns // 16, 1))
    scale[0, 0] = nvfp4.E4M3_MAX
    weight = blocks * scale * 2.0 ** rng.integers(-40, 30) * signs(rng, blocks.shape)
    return bf16(weight.reshape(rows, columns), exact=True)


def beside_ties(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """One BF16 step below, at, or above a tie; the amax of each block is left alone."""
    weight = ties(rng, rows, columns).reshape(rows, -1, 16)
    bits = weight.view(np.uint16)
    bits[..., 1:] = (bits[..., 1:].astype(np.int32) + rng.integers(-1, 2, bits[..., 1:].shape)).astype(np.uint16)
    return weight.reshape(rows, columns)


def scale_ties(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Every block scale half-way between two E4M3 values, subnormal ones among them."""
    blocks = rng.uniform(-1, 1, (rows, columns // 16, 16))
    middle = (E4M3_VALUES[:-1] + E4M3_VALUES[1:]) / 2
    amax = 6 * rng.choice(middle, (rows, columns // 16))
    amax[0, 0] = nvfp4.SCALE_DIVISOR
    weight = np.abs(blocks) * amax[..., None]
    weight[..., 5] = amax
    weight *= 2.0 ** rng.integers(-40, 30)
    assert (bf16(weight[..., 5]).astype(np.float64) == weight[..., 5]).all()
    return bf16((weight * signs(rng, weight.shape)).reshape(rows, columns))


def zeros_and_blocks(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Half of the blocks zero, half of those -0.0; scattered zeros in the others."""
    weight = rng.standard_normal((rows, columns // 16, 16)) * (rng.random((rows, columns // 16, 16)) < 0.7)
    weight *= rng.choice([0.0, -0.0, 1.0, 1.0], (rows, columns // 16, 1))
    weight[-1, -1, -1] = 1
    return bf16(weight.reshape(rows, columns))


def underflowing(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Huge and tiny weights in one block: tiny negative quotients, some so tiny that they lose their sign."""
    exponent = rng.choice([-133, -126, -60, 10, 17, 20], (rows, columns // 16, 1))
    weight = 2.0**exponent * rng.standard_normal((rows, columns // 16, 16))
    weight[..., 1::2] = -(2.0 ** rng.integers(-133, -120, weight[..., 1::2].shape))
    return bf16(weight.reshape(rows, columns))


def subnormal(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Nothing but BF16 subnormals: the global scale is a float32 subnormal, too."""
    bits = rng.integers(0, 0x80, (rows, columns), dtype=np.uint16) | rng.choice([0, 0x8000], (rows, columns))
    bits[0, 0] |= 1
    return bits.astype(np.uint16).view(ml_dtypes.bfloat16)


def huge(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    bits = rng.integers(0x7F00, 0x7F80, (rows, columns), dtype=np.uint16) | rng.choice([0, 0x8000], (rows, columns))
    return bits.astype(np.uint16).view(ml_dtypes.bfloat16)


def wide(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Blocks from 2**-30 to 2**10: most scales are clamped to 2**-9 or subnormal."""
    exponent = rng.integers(-30, 11, (rows, columns // 16, 1))
    return bf16((2.0**exponent * rng.standard_normal((rows, columns // 16, 16))).reshape(rows, columns))


def outlier(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    weight = rng.standard_normal((rows, columns)) * 0.01
    weight[rng.integers(rows), rng.integers(columns)] = rng.choice([-1, 1]) * 2.0 ** rng.integers(4, 40)
    return bf16(weight)


def constant(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    return np.full((rows, columns), bf16(np.array(rng.standard_normal())))


def powers_of_two(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    return bf16(2.0 ** rng.integers(-14, 1, (rows, columns)) * signs(rng, (rows, columns)))


CLASSES: dict[str, Generator] = {
    generator.__name__: generator
    for generator in (
        trained,
        any_finite_pattern,
        ties,
        beside_ties,
        scale_ties,
        zeros_and_blocks,
        underflowing,
        subnormal,
        huge,
        wide,
        outlier,
        constant,
        powers_of_two,
    )
}

SHAPES = ((8, 64), (1, 16), (3, 48), (16, 256), (5, 160), (2, 1024))


def make(name: str, seed: int) -> np.ndarray:
    """Tensor number `seed` of a class."""
    return CLASSES[name](np.random.default_rng([seed, len(name)]), *SHAPES[seed % len(SHAPES)])


SCALES: dict[str, Callable[[np.random.Generator, np.float32], np.float32 | None]] = {
    "own": lambda _rng, _natural: None,
    "of a larger group": lambda rng, natural: np.float32(natural * rng.uniform(1, 4)),
    "too small": lambda rng, natural: np.float32(max(natural * 2.0 ** rng.uniform(-12, 0), 2.0**-149)),
    "far off": lambda rng, _natural: np.float32(2.0 ** rng.uniform(-149, 127)),
    "power of two": lambda rng, _natural: np.float32(2.0 ** rng.integers(-149, 128)),
}
"""Global scales: the tensor's own, and given ones."""


def first_difference(ours: np.ndarray, theirs: np.ndarray, what: str) -> str:
    """Names row, column and both bytes of the first that differs; empty if none does."""
    assert ours.shape == theirs.shape, f"{what}: shape {ours.shape}, expected {theirs.shape}"
    ours, theirs = ours.view(np.uint8), theirs.view(np.uint8)
    different = np.argwhere(ours != theirs)
    if not len(different):
        return ""
    row, column = (int(index) for index in different[0])
    return (
        f"{what}: row {row}, column {column}: 0x{ours[row, column]:02x}, expected 0x{theirs[row, column]:02x} "
        f"({len(different)} of {ours.size} bytes differ)"
    )
