"""How fast, on this machine. Skipped unless asked for: `--benchmark-only` or `--benchmark-enable`."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_q3omni.engines.handle import ModelHandle
    from pytest_q3omni.omni.conversations import Conversation

_SHAPE = (1536, 2048)  # gate and up of one expert of the full-size model
_TOKENS = 32
_HARDWARE = [pytest.param(kind, marks=getattr(pytest.mark, kind)) for kind in ("gpu", "thor")]


@pytest.mark.tiny
@pytest.mark.benchmark(group="packing")
def test_packing(benchmark: Any) -> None:
    """GB/s of BF16 that become NVFP4 on this CPU, kernels compiled and warm."""
    import ml_dtypes
    import numpy as np

    from pytest_q3omni.nvfp4 import pack_tensor

    weight = np.random.default_rng(0).standard_normal(_SHAPE, np.float32).astype(ml_dtypes.bfloat16)
    device = f"{platform.machine()}, {os.cpu_count()} CPUs"
    benchmark.extra_info.update(bytes=weight.nbytes, shape=_SHAPE, device=device)
    benchmark.pedantic(pack_tensor, args=(weight,), rounds=10, warmup_rounds=2)
    if benchmark.stats is not None:
        benchmark.extra_info["gigabytes_per_second"] = weight.nbytes / benchmark.stats.stats.median / 1e9


@pytest.mark.parametrize("hardware", _HARDWARE)
@pytest.mark.benchmark(group="answer on transformers")
def test_answering(benchmark: Any, hardware: str, quantized_model: ModelHandle, conversation: Conversation) -> None:
    """Seconds per answer of your checkpoint on transformers, eagerly: a floor, not what an engine makes of it."""
    from pytest_q3omni.engines.device import probe

    answer = quantized_model.generate(conversation, max_new_tokens=_TOKENS)  # opens the model and warms it up
    benchmark.extra_info.update(
        marker=hardware, device=str(probe()), tokens=len(answer.tokens), numerics=quantized_model.numerics
    )
    benchmark.pedantic(quantized_model.generate, args=(conversation,), kwargs={"max_new_tokens": _TOKENS}, rounds=5)
