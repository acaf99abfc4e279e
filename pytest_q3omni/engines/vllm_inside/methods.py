"""Which method vLLM chose for each layer, in this package's words: w4a4, w4a16, fp8, fp8_dynamic, unquantized."""

from __future__ import annotations

from typing import Any

UNQUANTIZED = "unquantized"
_CACHE = ("k_scale", "v_scale")
_BESIDE_CACHE = ("q_scale", "prob_scale", "k_zero_point", "v_zero_point", "q_zero_point")
_INPUT = ("input_scale", "input_global_scale")
_BY_NAME = {
    "ModelOptFp8MoEMethod": "fp8",
    "ModelOptFp8LinearMethod": "fp8",  # this one and the following: before vLLM 0.31
    "ModelOptFp8PcPtLinearMethod": "fp8_dynamic",
    "ModelOptNvFp4LinearMethod": "w4a4",
    "ModelOptNvFp4W4A16LinearMethod": "w4a16",
}


def scheme_of(layer: Any) -> str:
    """The scheme of a layer that has a method; the method's class where it is none of ours."""
    method = layer.quant_method
    name = type(method).__name__
    if "Unquantized" in name:
        return UNQUANTIZED
    chosen = getattr(layer, "scheme", None) or method  # compressed-tensors keeps it beside the method
    if hasattr(chosen, "use_a16"):
        return "w4a16" if chosen.use_a16 else "w4a4"
    if hasattr(chosen, "spec"):
        return _by_spec(chosen.spec) or name
    for flag in ("is_static_input_scheme", "static_input_scales"):
        if hasattr(chosen, flag):
            return "fp8" if getattr(chosen, flag) else "fp8_dynamic"
    return _BY_NAME.get(name, type(chosen).__name__)


def _by_spec(spec: Any) -> str:
    import torch

    dtype = getattr(spec.weight, "dtype", None)
    if dtype == torch.uint8:
        return "w4a16" if spec.activation is None else "w4a4"
    if dtype in (torch.float8_e4m3fn, torch.float8_e4m3fnuz):
        return "fp8" if spec.activation == spec.weight else "fp8_dynamic"
    return ""


def layers(model: Any) -> dict[str, Any]:
    """vLLM's name -> module, of everything that has a method for its weights (attention has one for its cache)."""
    named = ((name, module) for name, module in model.named_modules() if getattr(module, "quant_method", None))
    return {name: module for name, module in named if not hasattr(module, "kv_cache_dtype")}


def why_unwritten(layer: Any, parameter: str) -> str:
    """Why it is right that a checkpoint does not write this parameter; "" where it is not."""
    if hasattr(layer, "kv_cache_dtype"):
        if parameter in _BESIDE_CACHE:
            return "vLLM has a default for it"
        if parameter in _CACHE and layer.kv_cache_dtype in ("auto", "bfloat16", "float16"):
            return "the KV cache is not quantized"
        return ""
    if parameter.endswith(_INPUT) and getattr(layer, "quant_method", None) and scheme_of(layer) == "w4a16":
        return "weight-only layers do not use it"
    return ""
