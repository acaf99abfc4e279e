"""What this interpreter could do with a GPU: its torch, its vLLM, and what vLLM would choose for packed weights here.

Every question is asked alone: an import that fails, or a release that names something differently, is an answer, and
leaves the others be.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from .answer import message_of
from .expert_tuning import tuned_file

_ORACLE = "vllm.model_executor.layers.fused_moe.oracle"


def examine(request_file: Path, response_file: Path) -> None:
    """Read the request, write the response.

    The request: {"vllm": whether to ask it, "experts", "experts_per_token", "width", "hidden"}: the shapes of the
    model's experts.
    """
    request = json.loads(request_file.read_text(encoding="utf-8"))
    response: dict[str, Any] = {"torch": _tried(_torch)}
    if request["vllm"]:
        spec = importlib.util.find_spec("vllm")
        response["folder"] = "" if spec is None or spec.origin is None else str(Path(spec.origin).parent)
        response["version"] = _tried(lambda: metadata.version("vllm")).get("answer", "")
        with tempfile.TemporaryDirectory(dir=request_file.parent) as scratch:
            response["vllm"] = _tried(lambda: _vllm(request, Path(scratch)))
    response_file.write_text(json.dumps(response), encoding="utf-8")


def _tried(question: Callable[[], Any]) -> dict[str, Any]:
    """{"answer": ...}, or {"error": the other side's own words}."""
    try:
        return {"answer": question()}
    except Exception as error:  # noqa: BLE001  # a broken build raises anything
        return {"error": message_of(error)}


def _torch() -> dict[str, Any]:
    import torch

    found: dict[str, Any] = {"version": torch.__version__, "cuda": torch.version.cuda or "", "devices": []}
    # `torch.cuda.get_arch_list()` is empty where there is no device, and the build is the question
    flags = getattr(torch._C, "_cuda_getArchFlags", lambda: "")() if found["cuda"] else ""
    found["architectures"] = (flags or "").split()
    started = _tried(torch.cuda.init) if found["cuda"] else {"error": "a build without CUDA"}
    found["trouble"] = started.get("error", "")
    if not found["trouble"]:
        found["devices"] = [_device(number) for number in range(torch.cuda.device_count())]
    return found


def _device(number: int) -> dict[str, Any]:
    import torch

    properties = torch.cuda.get_device_properties(number)
    computed = _tried(lambda: float((torch.ones(16, device=f"cuda:{number}") + 1).sum().item()))
    memory = _tried(lambda: torch.cuda.mem_get_info(number)).get("answer", (None, None))
    flag = getattr(properties, "is_integrated", None)
    return {
        "name": properties.name,
        "capability": [properties.major, properties.minor],
        "total": properties.total_memory,
        "free": memory[0],
        "unified": None if flag is None else bool(flag),
        "trouble": computed.get("error", ""),
    }


def _vllm(request: dict[str, Any], scratch: Path) -> dict[str, Any]:
    from . import surroundings

    surroundings.prepare(scratch)
    import vllm
    from vllm.platforms import current_platform

    found: dict[str, Any] = {"version": vllm.__version__, "platform": str(current_platform.device_name)}
    found["flashinfer"] = _tried(_flashinfer).get("answer", "")
    if current_platform.is_cuda():
        found["kernels"] = _tried(lambda: _kernels(request))
        found["tuning"] = _tried(lambda: _tuning(request))
    return found


def _flashinfer() -> str:
    return str(importlib.import_module("flashinfer").__version__)


def _kernels(request: dict[str, Any]) -> dict[str, Any]:
    """What vLLM chooses by itself, by numerics and kind of layer."""
    from vllm.config import VllmConfig, set_current_vllm_config

    with set_current_vllm_config(VllmConfig()):
        return {
            "w4a4": {"linear": _tried(lambda: _linear(False)), "experts": _tried(lambda: _experts(request, False))},
            "w4a16": {"linear": _tried(lambda: _linear(True)), "experts": _tried(lambda: _experts(request, True))},
            "bf16": {"experts": _tried(lambda: _unquantized_experts(request))},
        }


def _linear(weight_only: bool) -> str:
    from vllm.model_executor.kernels.linear import init_nvfp4_linear_kernel

    return type(init_nvfp4_linear_kernel(use_a16=weight_only)).__name__


def _experts(request: dict[str, Any], weight_only: bool) -> str:
    from vllm.model_executor.layers.quantization.utils import quant_utils

    oracle: Any = importlib.import_module(f"{_ORACLE}.nvfp4")
    inputs = None if weight_only else quant_utils.kNvfp4Dynamic
    chosen, _ = oracle.select_nvfp4_moe_backend(_experts_config(request), quant_utils.kNvfp4Static, inputs)
    return str(chosen.name)


def _unquantized_experts(request: dict[str, Any]) -> str:
    oracle: Any = importlib.import_module(f"{_ORACLE}.unquantized")
    chosen, _ = oracle.select_unquantized_moe_backend(_experts_config(request))
    return str(chosen.name)


def _experts_config(request: dict[str, Any]) -> Any:
    """What vLLM's layer would say of itself: one device, bfloat16, softmax over the chosen experts."""
    import torch
    from vllm.model_executor.layers.fused_moe.activation import MoEActivation
    from vllm.model_executor.layers.fused_moe.config import FusedMoEConfig, FusedMoEParallelConfig, RoutingMethodType

    experts = request["experts"]
    return FusedMoEConfig(
        num_experts=experts,
        experts_per_token=request["experts_per_token"],
        hidden_dim=request["hidden"],
        intermediate_size=request["width"],
        num_local_experts=experts,
        num_logical_experts=experts,
        activation=MoEActivation.SILU,
        device="cuda",
        routing_method=RoutingMethodType.Renormalize,
        moe_parallel_config=FusedMoEParallelConfig.make_no_parallel(),
        in_dtype=torch.bfloat16,
    )


def _tuning(request: dict[str, Any]) -> dict[str, str]:
    """The file with tuned settings of the Triton kernel for BF16 experts: its name, and where it is, "" for nowhere."""
    name, place = tuned_file(request["experts"], request["width"])
    return {"name": name, "found": "" if place is None else str(place)}
