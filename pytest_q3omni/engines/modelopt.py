"""ModelOpt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_q3omni.nvfp4.format import BLOCK_SIZE, E2M1_MAX, E4M3_MAX, SCALE_DIVISOR

if TYPE_CHECKING:
    import torch

_SMALLEST_SCALE = 1e-5
_ZERO_AMAX_SCALE = 1e-12


def nvfp4_fake_quantize(data: torch.Tensor, amax: torch.Tensor) -> torch.Tensor:
    """NVFP4 there and back, as ModelOpt's CUDA operator does it; same shape and dtype, on any device."""
    import torch

    total = amax.float().amax() * (1 / SCALE_DIVISOR)  # torch's CUDA kernel divides by a constant this way
    global_scale = torch.where(total > 0, total, _ZERO_AMAX_SCALE)
    width = data.shape[-1]
    padded = torch.nn.functional.pad(data.float(), (0, -width % BLOCK_SIZE))
    blocks = padded.unflatten(-1, (-1, BLOCK_SIZE))
    magnitude = blocks.abs()
    largest = magnitude.nan_to_num(nan=-1.0, posinf=torch.inf).amax(-1, keepdim=True)
    wanted = torch.where(largest < 0, E4M3_MAX, largest / (E2M1_MAX * global_scale)).clamp(max=E4M3_MAX)
    scale = wanted.to(torch.float8_e4m3fn).float() * global_scale
    scale = torch.where(scale >= _SMALLEST_SCALE, scale, 1.0)
    quotient = (magnitude / scale).nan_to_num(nan=torch.inf, posinf=torch.inf)
    step = torch.where(quotient < 2, 0.5, torch.where(quotient < 4, 1.0, 2.0))
    rounded = ((quotient / step).round() * step).clamp(max=E2M1_MAX) * scale
    result = torch.where(blocks >= 0, rounded, -rounded).flatten(-2)
    return result[..., :width].to(data.dtype)
