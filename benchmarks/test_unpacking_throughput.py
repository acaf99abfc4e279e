"""Unpacking to float32: ours, into a reused buffer, against ModelOpt's `NVFP4QTensor.dequantize` on the CPU.

GB/s of the weight in BF16.
"""

from typing import Any

import numpy as np
import pytest

from pytest_q3omni.conformance._speed import Baseline, gigabytes_per_second, measure
from pytest_q3omni.nvfp4 import pack_tensor
from pytest_q3omni.nvfp4.codec import unpack_into

pytestmark = [pytest.mark.tiny, pytest.mark.benchmark(group="unpacking")]


def test_unpacking_against_modelopt(benchmark: Any, weight: Any, torch_threads: Any) -> None:
    import torch
    from modelopt.torch.quantization.qtensor import NVFP4QTensor

    packed, values = pack_tensor(weight), np.empty(weight.shape, np.float32)
    theirs = NVFP4QTensor(weight.shape, torch.bfloat16, torch.from_numpy(packed.codes))
    scales = torch.from_numpy(packed.block_scale.view(np.uint8)).view(torch.float8_e4m3fn)
    global_scale = torch.tensor(packed.global_scale)

    def modelopt() -> Any:
        return theirs.dequantize(torch.float32, scale=scales, double_scale=global_scale, block_sizes={-1: 16})

    measure(
        benchmark, lambda: unpack_into(packed, values), Baseline("ModelOpt's NVFP4QTensor.dequantize", modelopt),
        gigabytes_per_second(weight.nbytes), rounds=15, packages=("numpy", "numba", "torch", "nvidia-modelopt"),
        bytes=weight.nbytes, shape=weight.shape, torch_threads=torch_threads(modelopt),
    )  # fmt: skip
    assert np.array_equal(values, modelopt().numpy()), "the same values, or no comparison"
