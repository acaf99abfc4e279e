"""Packing: ours against ModelOpt's `NVFP4QTensor.quantize` on the CPU. GB/s of BF16 input."""

from typing import Any

import numpy as np
import pytest

from pytest_q3omni.conformance._speed import Baseline, gigabytes_per_second, measure
from pytest_q3omni.nvfp4 import pack_tensor

pytestmark = [pytest.mark.tiny, pytest.mark.benchmark(group="packing")]


def test_packing_against_modelopt(benchmark: Any, weight: Any, torch_threads: Any) -> None:
    import torch
    from modelopt.torch.quantization.qtensor import NVFP4QTensor

    theirs = torch.from_numpy(weight.view(np.int16)).view(torch.bfloat16)

    def modelopt() -> Any:
        return NVFP4QTensor.quantize(theirs, 16)

    packed = measure(
        benchmark, lambda: pack_tensor(weight), Baseline("ModelOpt's NVFP4QTensor.quantize", modelopt),
        gigabytes_per_second(weight.nbytes), rounds=15, packages=("numpy", "numba", "torch", "nvidia-modelopt"),
        bytes=weight.nbytes, shape=weight.shape, torch_threads=torch_threads(modelopt),
    )  # fmt: skip
    tensor, scales, global_scale = modelopt()
    assert packed.codes.tobytes() == tensor._quantized_data.numpy().tobytes(), "the same bytes, or no comparison"
    assert packed.block_scale.tobytes() == scales.view(torch.uint8).numpy().tobytes()
    assert packed.global_scale == global_scale.item()
