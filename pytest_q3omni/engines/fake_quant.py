"""NVFP4 and back in torch, as ModelOpt's CUDA operator rounds: for calibration on the CPU, and for W4A4 anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_q3omni.nvfp4.format import BLOCK_SIZE, E2M1_MAX, E4M3_MAX, SCALE_DIVISOR

if TYPE_CHECKING:
    import torch

_SMALLEST_SCALE = 1e-5
_SCALE_OF_ZERO_AMAX = 1e-12
"""Two constants of modelopt/torch/kernels/quantization/gemm/fp4_kernel_hopper.py."""


def nvfp4_fake_quantize(data: torch.Tensor, amax: torch.Tensor) -> torch.Tensor:
    """To NVFP4 and back, as ModelOpt's CUDA operator does it: same shape and dtype, on any device.

    The global scale is amax times the float32 reciprocal of 2688: so torch divides by a constant on CUDA. On the CPU,
    and in packed files, it is the quotient, which may differ in the last bit. The rest: `round_to_nvfp4`.

    data: (..., width), a width that is no multiple of 16 is padded with zeros. amax: any shape, the largest counts.
    """
    return round_to_nvfp4(data, amax.float().amax() * (1 / SCALE_DIVISOR))


def round_to_nvfp4(data: torch.Tensor, global_scale: torch.Tensor) -> torch.Tensor:
    """To NVFP4 and back with a given global scale (float32, 0-dim): a checkpoint's `input_scale`.

    The rules are those of the Triton kernel `fp4_fake_quant_block` (ModelOpt 0.47). Three are not those of packed
    weights: a block scale that rounds to zero stays zero; a product of both scales below 1e-5 becomes 1, so that blocks
    of such small values turn to zero; and Triton's `/` is PTX's `div.full.f32`, a product with a reciprocal. The GPU's
    reciprocal may be off by one unit in the last place, ours is rounded to nearest: only a quotient that close to a
    rounding boundary can come out otherwise (`tests/engines/test_cuda_vectors.py`: in 10 of 6658 blocks).
    """
    import torch

    global_scale = torch.where(global_scale > 0, global_scale, _SCALE_OF_ZERO_AMAX)
    width = data.shape[-1]
    padded = torch.nn.functional.pad(data.float(), (0, -width % BLOCK_SIZE))
    blocks = padded.unflatten(-1, (-1, BLOCK_SIZE))
    magnitude = blocks.abs()
    largest = magnitude.nan_to_num(nan=-1.0, posinf=torch.inf).amax(-1, keepdim=True)  # Triton's maximum skips NaN
    wanted = torch.where(largest < 0, E4M3_MAX, largest * _reciprocal(E2M1_MAX * global_scale)).clamp(max=E4M3_MAX)
    scale = wanted.to(torch.float8_e4m3fn).float() * global_scale
    scale = torch.where(scale >= _SMALLEST_SCALE, scale, 1.0)
    quotient = (magnitude * _reciprocal(scale)).nan_to_num(nan=torch.inf, posinf=torch.inf)
    step = torch.where(quotient < 2, 0.5, torch.where(quotient < 4, 1.0, 2.0))  # between E2M1's neighbours
    rounded = ((quotient / step).round() * step).clamp(max=E2M1_MAX) * scale  # to nearest even; the step is exact
    result = torch.where(blocks >= 0, rounded, 0 - rounded).flatten(-2)  # no negative zero
    return result[..., :width].to(data.dtype)


def _reciprocal(values: torch.Tensor) -> torch.Tensor:
    return 1 / values
