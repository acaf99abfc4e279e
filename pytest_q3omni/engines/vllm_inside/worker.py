"""What is asked inside vLLM's worker, where the model is: vLLM adds this class to its own worker's.

Answers are plain numbers and names, since they cross processes.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from . import methods
from .expert_tuning import tuned_file

_GRAIN = 1 << 20


class Look:
    """Questions for `collective_rpc`."""

    def q3omni_look(self) -> dict[str, Any]:
        """Kernels by layer, bytes of weights and of the KV cache, the device."""
        model = self._q3omni_model()
        linear: Counter[str] = Counter()
        experts: Counter[str] = Counter()
        for layer in methods.layers(model).values():
            where = experts if hasattr(layer.quant_method, "moe") else linear
            where[kernel_of(layer)] += 1
        attention = Counter(backend_of(module) for module in model.modules() if hasattr(module, "attn_backend"))
        runner: Any = self.model_runner  # type: ignore[attr-defined]
        held = [*model.parameters(), *model.buffers()]
        weights = getattr(runner, "model_memory_usage", 0) or sum(one.numel() * one.element_size() for one in held)
        return {
            "linear": dict(linear),
            "experts": dict(experts),
            "attention": dict(attention),
            "expert_tuning": _tuning(model),
            "weight_bytes": int(weights),
            "kv_cache_bytes": _bytes(getattr(runner, "kv_caches", ())),
            **_device(),
        }

    def q3omni_fill(self) -> int:
        """Random packed codes, which the dummy loader leaves as memory was; their number."""
        import torch

        filled = 0
        for name, value in self._q3omni_model().named_parameters():
            if name.endswith("weight") and not value.is_floating_point() and value.is_contiguous():
                codes = value.data.view(torch.uint8).flatten()
                for begin in range(0, codes.numel(), 256 * _GRAIN):
                    codes[begin : begin + 256 * _GRAIN].random_(0, 256)
                filled += value.numel()
        return filled

    def q3omni_memory(self) -> dict[str, int]:
        """Bytes on the device: by this process now, at most so far, and by everybody."""
        import torch

        if not torch.cuda.is_available():
            return {"allocated": 0, "peak": 0, "device_used": 0}
        free, total = torch.cuda.mem_get_info()
        return {
            "allocated": torch.cuda.memory_allocated(),
            "peak": torch.cuda.max_memory_allocated(),
            "device_used": total - free,
        }

    def _q3omni_model(self) -> Any:
        return self.get_model()  # type: ignore[attr-defined]


def kernel_of(layer: Any) -> str:
    """The kernel or backend that a layer's method chose; the method's class where it names none."""
    method = layer.quant_method
    chosen = getattr(layer, "scheme", None) or method  # compressed-tensors keeps it beside the method
    for kind in ("nvfp4", "fp8", "mxfp8", "unquantized"):
        backend = getattr(chosen, f"{kind}_backend", None)
        if backend is not None:
            name = str(getattr(backend, "name", backend))
            return name if kind == "unquantized" else f"{kind.upper()} {name}"
    kernel = getattr(chosen, "kernel", None) or getattr(chosen, "fp8_linear", None)
    return type(kernel if kernel is not None else chosen).__name__


def backend_of(module: Any) -> str:
    """The attention backend's own name."""
    name = getattr(module.attn_backend, "get_name", None)
    return str(name() if callable(name) else getattr(module.attn_backend, "name", module.attn_backend))


def _tuning(model: Any) -> str:
    """The file of tuned settings for the experts' Triton kernel: "default" without one, "" for other kernels."""
    for layer in methods.layers(model).values():
        if "TRITON" not in kernel_of(layer).upper() or not hasattr(layer, "w2_weight"):
            continue
        experts, _, width = layer.w2_weight.shape
        name, place = tuned_file(experts, width)
        return "default" if place is None else name
    return ""


def _bytes(tensors: Any) -> int:
    total, seen = 0, set()
    for tensor in tensors:
        for one in tensor if isinstance(tensor, list | tuple) else [tensor]:
            storage = one.untyped_storage()
            if storage.data_ptr() not in seen:  # layers may share one
                seen.add(storage.data_ptr())
                total += storage.nbytes()
    return total


def _device() -> dict[str, Any]:
    import torch

    if not torch.cuda.is_available():
        import platform

        return {"device": f"{platform.machine()} CPU", "capability": None}
    return {"device": torch.cuda.get_device_name(), "capability": list(torch.cuda.get_device_capability())}
