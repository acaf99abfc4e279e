"""Packing: ours against ModelOpt's `NVFP4QTensor.quantize` on the same CPU, in the same run. GB/s of BF16 input."""

import os
import platform
import statistics
import timeit
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from pytest_q3omni.nvfp4 import pack_tensor

pytestmark = pytest.mark.tiny

SHAPE = (1536, 2048)  # gate and up of one expert of the full-size thinker
BASELINE_ROUNDS = 5


@pytest.fixture
def weight() -> Any:
    """A BF16 weight of trained-like values."""
    values = np.random.default_rng(0).standard_normal(SHAPE) * 0.02
    return values.astype(ml_dtypes.bfloat16)


def test_packing_against_modelopt(benchmark: Any, weight: Any) -> None:
    torch = pytest.importorskip("torch", reason="needs the quantize extra: pip install 'pytest-q3omni[quantize]'")
    from modelopt.torch.quantization.qtensor import NVFP4QTensor

    torch.set_num_threads(os.cpu_count() or 1)  # as many as our kernels take
    theirs = torch.from_numpy(weight.view(np.int16)).view(torch.bfloat16)

    def baseline() -> Any:
        return NVFP4QTensor.quantize(theirs, 16)

    baseline()
    expected = statistics.median(timeit.repeat(baseline, number=1, repeat=BASELINE_ROUNDS))
    packed = benchmark.pedantic(pack_tensor, args=(weight,), warmup_rounds=2, rounds=20)
    assert packed.codes.tobytes() == baseline()[0]._quantized_data.numpy().tobytes(), "the same bytes, or no comparison"
    seconds = benchmark.stats.stats.median
    benchmark.extra_info.update(
        bytes=weight.nbytes,
        shape=SHAPE,
        device=platform.processor() or platform.machine(),
        gigabytes_per_second=weight.nbytes / seconds / 1e9,
        baseline="ModelOpt NVFP4QTensor.quantize on the CPU",
        baseline_gigabytes_per_second=weight.nbytes / expected / 1e9,
        ratio=expected / seconds,
        torch_threads=torch.get_num_threads(),
    )
