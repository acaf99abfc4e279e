"""The rules of NVFP4 packing, written to be read: the oracle that the fast kernels are compared with, bit for bit.

Rules and order of operations are those of ModelOpt 0.47, `NVFP4QTensor.quantize`, all in float32. Every division and
product below rounds once, to nearest even. Subnormal numbers count: `torch.set_flush_denormal(True)` changes bytes.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from pytest_q3omni.nvfp4 import format as nvfp4

Array = npt.NDArray[Any]


def reference_global_scale(weight: Array) -> np.float32:
    """`amax / 2688`; 1.0 for an all-zero tensor, where ModelOpt writes 0 and NaN block scales."""
    amax = np.abs(weight.astype(np.float32)).max()
    return np.float32(1) if amax == 0 else np.float32(amax / np.float32(nvfp4.SCALE_DIVISOR))


def reference_block_scale(weight: Array, global_scale: np.float32) -> Array:
    """Block scales, float8_e4m3fn `(out, in / 16)`.

    A quotient of zero (an all-zero block, or an underflow) becomes 1.0; the rest is clamped to what E4M3 can hold.
    """
    blocks = weight.astype(np.float32).reshape(weight.shape[0], -1, nvfp4.BLOCK_SIZE)
    with np.errstate(over="ignore", under="ignore"):
        scale = np.abs(blocks).max(axis=-1) / (np.float32(nvfp4.E2M1_MAX) * global_scale)
    scale[scale == 0] = 1
    clamped: Array = scale.clip(np.float32(nvfp4.E4M3_MIN), np.float32(nvfp4.E4M3_MAX))
    return clamped.astype(ml_dtypes.float8_e4m3fn)


def reference_quotient(weight: Array, block_scale: Array, global_scale: np.float32) -> npt.NDArray[np.float32]:
    """What E2M1 has to express, `(out, in)`: the weight over the product of its two scales."""
    with np.errstate(over="ignore", under="ignore"):
        divisor = np.repeat(block_scale.astype(np.float32) * global_scale, nvfp4.BLOCK_SIZE, axis=-1)
        quotient: npt.NDArray[np.float32] = np.divide(weight.astype(np.float32), divisor)
    return quotient


def reference_code(quotient: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """E2M1 codes, 0 to 15: the nearest value, ties to the even code, saturated at 6. -0.0 has no sign."""
    magnitude = np.abs(quotient)
    code = np.zeros(quotient.shape, np.uint8)
    for bound, tie_goes_up in zip(nvfp4.E2M1_BOUNDS, nvfp4.E2M1_TIES_UP, strict=True):
        code += magnitude >= bound if tie_goes_up else magnitude > bound
    return code + np.uint8(nvfp4.SIGN_BIT) * (quotient < 0)


def reference_pack(weight: Array, global_scale: np.float32 | None = None) -> tuple[Array, Array, np.float32]:
    """(codes, block_scale, global_scale) of a finite BF16 weight `(out, in)`."""
    global_scale = reference_global_scale(weight) if global_scale is None else global_scale
    block_scale = reference_block_scale(weight, global_scale)
    code = reference_code(reference_quotient(weight, block_scale, global_scale))
    return code[:, 0::2] | code[:, 1::2] << 4, block_scale, global_scale


def reference_unpack(codes: Array, block_scale: Array, global_scale: np.float32) -> npt.NDArray[np.float32]:
    """Float32 weight `(out, in)`: `E2M1 * (block_scale * global_scale)`."""
    values = np.array([*nvfp4.E2M1_VALUES, *(0.0 - value for value in nvfp4.E2M1_VALUES)], np.float32)
    code = np.stack([codes & 15, codes >> 4], axis=-1).reshape(codes.shape[0], -1)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        scale = np.repeat(block_scale.astype(np.float32) * global_scale, nvfp4.BLOCK_SIZE, axis=-1)
        weight: npt.NDArray[np.float32] = values[code] * scale
    return weight
