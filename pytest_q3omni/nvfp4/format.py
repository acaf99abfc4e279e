"""NVFP4: the number format itself. Tables, bit layout, bytes and the error it permits.

A weight `(out_features, in_features)` becomes three tensors:

=============== ============== ============================ =====================================================
name            dtype          shape                        meaning
=============== ============== ============================ =====================================================
`codes`         uint8          `(out, in / 2)`              two E2M1 codes a byte
`block_scale`   float8_e4m3fn  `(out, in / 16)`             one scale for 16 neighbours along `in_features`
`global_scale`  float32        `()`                         one scale for the tensor (ModelOpt's weight_scale_2)
=============== ============== ============================ =====================================================

and stands for `E2M1[code] * (block_scale * global_scale)`, both products in float32. W4A4 checkpoints carry a second
float32 per tensor, `input_scale`, for the activations.

Bits, highest first::

    code byte  : s e e m | s e e m      high nibble: odd column; low nibble: even column
    E2M1       : s e e m                exponent bias 1; ee = 00 is subnormal: 0 or 0.5; neither Inf nor NaN
    E4M3 (fn)  : s e e e e m m m        exponent bias 7; eeee = 0000 is subnormal; s.1111.111 is NaN; no Inf

Sources: E2M1 and E4M3 from OCP Microscaling Formats (MX) v1.0, sections 5.3.3 and 5.3.1; block size 16, the scales and
their order from ModelOpt, `modelopt/torch/quantization/qtensor/nvfp4_tensor.py`.

Pure Python: `plan` and the verifier read this module without loading numpy.
"""

from __future__ import annotations

from typing import Final

from pytest_q3omni.errors import FormatError

BLOCK_SIZE: Final = 16
"""Weights that share one E4M3 scale. The FP4 tensor cores and every serving kernel take 16; MXFP4 has 32."""

E2M1_VALUES: Final = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""Value of E2M1 codes 0 to 7. Codes 8 to 15 are the same with the sign bit; code 8 counts as +0.0, as in ModelOpt."""

E2M1_MAX: Final = 6.0
SIGN_BIT: Final = 8

E2M1_BOUNDS: Final = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)
"""Midpoints between neighbouring values: bound `k` parts code `k` from code `k + 1`."""

E2M1_TIES_UP: Final = (False, True, False, True, False, True, False)
"""Which way a quotient that *equals* the bound goes. Up means to the even mantissa: .75 -> 1, 1.75 -> 2, 3.5 -> 4."""

E4M3_MAX: Final = 448.0
E4M3_MAX_CODE: Final = 0x7E
"""448. The next code, 0x7f, is NaN."""

E4M3_MIN: Final = 2.0**-9
"""Smallest positive value (subnormal, code 1). Block scales are clamped to [E4M3_MIN, E4M3_MAX]."""

E4M3_MIN_NORMAL: Final = 2.0**-6
E4M3_ONE_CODE: Final = 0x38
"""1.0: the scale of a block whose amax is zero, or underflows to zero when divided."""

SCALE_DIVISOR: Final = E2M1_MAX * E4M3_MAX
"""2688. Global scale = amax / 2688: the block with the largest weight then has the scale 448, and code 6 its amax."""

GLOBAL_SCALE_BYTES: Final = 4


def check_shape(shape: tuple[int, ...], *, where: str = "") -> tuple[int, int]:
    """Return `(out_features, in_features)` of a weight that NVFP4 can hold.

    Raises:
        FormatError: not two dimensions, an empty dimension, or `in_features` no multiple of 16.
    """
    if len(shape) != 2:
        raise FormatError(
            f"a weight with {len(shape)} dimensions, shape {shape}",
            where=where,
            expected="two: (out_features, in_features)",
            fix="split fused experts and flatten convolutions before packing, or keep the tensor in BF16",
        )
    out_features, in_features = shape
    if not (out_features > 0 and in_features > 0):
        raise FormatError(f"an empty weight, shape {shape}", where=where, expected="at least one row and one block")
    if in_features % BLOCK_SIZE:
        raise FormatError(
            f"in_features = {in_features}",
            where=where,
            expected=f"a multiple of {BLOCK_SIZE}, the block size of NVFP4",
            fix="keep this tensor in BF16",
        )
    return out_features, in_features


def packed_bytes(out_features: int, in_features: int, *, input_scale: bool) -> int:
    """Bytes of one packed weight with its scales: `out * in / 2 + out * in / 16 + 4`, and 4 more for `input_scale`.

    Raises:
        FormatError: see `check_shape`.
    """
    out_features, in_features = check_shape((out_features, in_features))
    weights = out_features * in_features
    return weights // 2 + weights // BLOCK_SIZE + GLOBAL_SCALE_BYTES * (2 if input_scale else 1)


def bits_per_parameter(out_features: int, in_features: int, *, input_scale: bool) -> float:
    """Bits that one weight costs: 4.5, and a little for the scales that the whole tensor shares.

    Raises:
        FormatError: see `check_shape`.
    """
    return 8 * packed_bytes(out_features, in_features, input_scale=input_scale) / (out_features * in_features)


def error_bound(block_amax: float, global_scale: float) -> float:
    """Largest `|weight - unpacked|` that the rules permit in a block whose largest magnitude is `block_amax`.

    For amax below `2**127`: near the end of float32, a scale that was rounded up unpacks to Inf.

    With `b` the amax, `G` the global scale, `s` the stored block scale, wanted is `s = b / 6G`, and `d = s * G`:

    - a weight is rounded to the nearest of the values `E2M1 * d`, the largest gap being 4 to 6, so it is off by at most
      half of it, `d`; beyond `6 d` (a scale that was rounded down, or clamped at 448) by at most `b - 6 d`;
    - rounding `s` to E4M3 moves it by at most half a step: `s / 16` for normal scales, `2**-10` for subnormal ones;
      below `2**-9` it becomes exactly `2**-9`, above 448 exactly 448. So `d` is near `b / 6`, or at a limit;
    - zero is among the values, so no weight is ever off by more than itself: at most `b`. This is what remains of a
      block far below `2**-9 * 6G` (all its codes are 0) and of one that divides to zero.

    For normal scales that is `17 / 96` of the amax. Float32 rounds six times on the way (6G, s, d, the quotient, the
    product; here once more), each by `2**-24` of a quantity of at most 16 times the result: `1 + 2**-16` covers them.
    Where `d` or the product is subnormal they are off by up to `2**-150`, the former six times: `2**-147` covers those.
    """
    smallest, greatest = E4M3_MIN * global_scale, E4M3_MAX * global_scale
    wanted = block_amax * (1 / E2M1_MAX)
    step = max(wanted / 16, smallest / 2)
    low = high = smallest
    if wanted >= smallest:
        low, high = min(wanted - step, greatest), min(wanted + step, greatest)
    return min(block_amax, max(high, block_amax - E2M1_MAX * low)) * (1 + 2.0**-16) + 2.0**-147
