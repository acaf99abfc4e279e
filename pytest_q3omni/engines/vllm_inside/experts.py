"""NVFP4 experts on a CPU: the place of vLLM's kernel, computed with vLLM's own dequantization, an expert at a time.

Everything before it is vLLM's: which of two global scales counts for gate and up, and the largest input scale for all.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_UTILS = "vllm.model_executor.layers.quantization.utils.nvfp4_emulation_utils"
_BLOCK = 16


class Experts:
    """What vLLM calls a fused MoE kernel. scales: vLLM's `FusedMoEQuantConfig`; without input scales it is W4A16."""

    is_monolithic = False
    can_overlap_shared_experts = False

    def __init__(self, moe_quant_config: Any, **_: Any) -> None:
        self.scales = moe_quant_config
        self.fused_experts = self.prepare_finalize = self

    def process_weights_after_loading(self, layer: Any) -> None:
        """Nothing to prepare."""

    def topk_indices_dtype(self) -> None:
        """Any dtype will do."""

    def output_is_reduced(self) -> bool:
        """There is one process, so there is nothing to reduce."""
        return False

    def apply(self, x: Any, w13: Any, w2: Any, topk_weights: Any, topk_ids: Any, **_: Any) -> Any:
        """Tokens (tokens, hidden) through the experts that were chosen for them; topk_* are (tokens, chosen)."""
        import torch

        scales, out = self.scales, torch.zeros_like(x)
        for expert in topk_ids.unique().tolist():
            tokens, place = (topk_ids == expert).nonzero(as_tuple=True)
            first = _weight(w13[expert], scales.w1_scale[expert], scales.g1_alphas[expert], x.dtype)
            second = _weight(w2[expert], scales.w2_scale[expert], scales.g2_alphas[expert], x.dtype)
            gate, up = (_rounded(x[tokens], scales.a1_gscale) @ first.t()).chunk(2, dim=-1)
            inner = torch.nn.functional.silu(gate) * up
            result = _rounded(inner, scales.a2_gscale) @ second.t()
            out.index_add_(0, tokens, (result * topk_weights[tokens, place, None]).to(x.dtype))
        return out


def _weight(codes: Any, block_scale: Any, global_scale: Any, dtype: Any) -> Any:
    return import_module(_UTILS).dequantize_to_dtype(codes, block_scale, global_scale, dtype, _BLOCK, swizzle=False)


def _rounded(x: Any, global_scale: Any) -> Any:
    return x if global_scale is None else import_module(_UTILS).ref_nvfp4_quant_dequant(x, global_scale, _BLOCK)


def weight_only(layer: Any, x: Any, bias: Any = None) -> Any:
    """A dense W4A16 layer: what vLLM leaves to Marlin."""
    weight = _weight(layer.weight.data, layer.weight_scale.data, layer.weight_global_scale, x.dtype)
    out = x @ weight.t()
    return out if bias is None else out + bias
