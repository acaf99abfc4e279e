"""Kernels for a CPU, which vLLM has none of for NVFP4: it must choose one before it builds a layer.

Dense layers get vLLM's own emulation. Experts, which vLLM emulates in Triton only, are computed here: weights
dequantized, inputs rounded to NVFP4 where the layer is W4A4. Elsewhere than on a CPU nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from .experts import Experts, weight_only

_LAYERS = "vllm.model_executor.layers"
_FROM_MODELOPT = f"{_LAYERS}.quantization.modelopt"
_COMPRESSED = f"{_LAYERS}.quantization.compressed_tensors.compressed_tensors_moe"
_NVFP4_EXPERTS = {
    _FROM_MODELOPT: "ModelOptNvFp4FusedMoE",
    f"{_COMPRESSED}.compressed_tensors_moe_w4a4_nvfp4": "CompressedTensorsW4A4Nvfp4MoEMethod",
}
FP8_MOST = 448.0  # largest finite E4M3
_FP8_EXPERTS = (_FROM_MODELOPT, f"{_COMPRESSED}.compressed_tensors_moe_w8a8_fp8")


def allow_emulation() -> None:
    """Let vLLM choose kernels that a CPU can pretend to have."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    linear: Any = import_module("vllm.model_executor.kernels.linear")
    linear.register_linear_kernel(linear.EmulationNvFp4LinearKernel, current_platform._enum, "nvfp4")
    # W4A16 is forced onto Marlin, whose shape rules stay; only "this is no GPU" is overruled.
    linear.MarlinNvFp4LinearKernel.is_supported = classmethod(lambda cls, capability=None: (True, None))  # noqa: ARG005
    linear.MarlinNvFp4LinearKernel.process_weights_after_loading = lambda self, layer: None  # noqa: ARG005
    linear.MarlinNvFp4LinearKernel.apply_weights = lambda self, layer, x, bias=None: weight_only(layer, x, bias)  # noqa: ARG005
    for name, method in _NVFP4_EXPERTS.items():
        module: Any = import_module(name)
        module.select_nvfp4_moe_backend = _emulated_experts
        module.make_nvfp4_moe_quant_config = _scales
        module.make_nvfp4_moe_kernel = Experts
        getattr(module, method).apply = _apply_experts
        _remember_weight_only(getattr(module, method))
    for name in _FP8_EXPERTS:
        experts: Any = import_module(name)
        experts.select_fp8_moe_backend = _cpu_experts
    operators: Any = import_module("vllm._custom_ops")
    operators.scaled_fp8_quant = _with_static_fp8(operators.scaled_fp8_quant)


def _with_static_fp8(quantize: Callable[..., Any]) -> Callable[..., Any]:
    """q/k/v with scales of their own are rounded again to the largest; vLLM has that operator on GPUs only."""

    def rounded(values: Any, scale: Any = None, *rest: Any, **options: Any) -> Any:
        import torch

        if scale is None or scale.numel() != 1 or rest or options:
            return quantize(values, scale, *rest, **options)
        return (values.float() / scale).clamp(-FP8_MOST, FP8_MOST).to(torch.float8_e4m3fn), scale

    return rounded


def _remember_weight_only(method: Any) -> None:
    """compressed-tensors' experts know `use_a16` only while they are made, before vLLM 0.31."""
    make = method.__init__

    def made(self: Any, *args: Any, **options: Any) -> None:
        make(self, *args, **options)
        if not hasattr(self, "use_a16"):
            self.use_a16 = options.get("use_a16", False)

    method.__init__ = made


def _apply_experts(self: Any, layer: Any, x: Any, topk_weights: Any, topk_ids: Any, *_: Any, **__: Any) -> Any:
    return self.moe_kernel.apply(x, layer.w13_weight, layer.w2_weight, topk_weights, topk_ids)


def _emulated_experts(*_: Any, **__: Any) -> tuple[Any, Any]:
    oracle = import_module(f"{_LAYERS}.fused_moe.oracle.nvfp4")
    backend = oracle.NvFp4MoeBackend.EMULATION
    return backend, oracle.backend_to_kernel_cls(backend)[0]


def _scales(*, use_a16: bool = False, **given: Any) -> Any:
    """The scales of one layer's experts. Weight-only layers have no input scales: theirs is memory nobody wrote."""
    config = import_module(f"{_LAYERS}.fused_moe.config")
    names = {"g1_alphas": "w13_scale_2", "g2_alphas": "w2_scale_2", "w1_scale": "w13_scale", "w2_scale": "w2_scale"}
    scales = {name: given[name_there] for name, name_there in names.items()}
    if use_a16:
        return config.nvfp4_w4a16_moe_quant_config(**scales)
    return config.nvfp4_moe_quant_config(a1_gscale=given["a13_scale"], a2_gscale=given["a2_scale"], **scales)


def _cpu_experts(*_: Any, **__: Any) -> tuple[Any, Any]:
    oracle = import_module(f"{_LAYERS}.fused_moe.oracle.fp8")
    backend = oracle.Fp8MoeBackend.CPU
    return backend, oracle.backend_to_kernel_cls(backend)[0]
