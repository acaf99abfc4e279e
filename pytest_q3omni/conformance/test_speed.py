"""How fast weights become NVFP4 and come back, on this CPU. Skipped unless asked for: `--benchmark-only`.

Both rates count the bytes of the weight in BF16, so that they compare.
"""

from __future__ import annotations

from typing import Any

import pytest

from pytest_q3omni.conformance._speed import Baseline, expert_weight, gigabytes_per_second, measure

pytestmark = pytest.mark.tiny

_PACKAGES = ("numpy", "ml_dtypes", "numba")


@pytest.fixture
def weight() -> Any:
    """Gate and up of one expert."""
    return expert_weight()


@pytest.mark.benchmark(group="packing")
def test_packing(benchmark: Any, weight: Any) -> None:
    """Against a copy of the same bytes: the rate that memory allows on one core."""
    import numpy as np

    from pytest_q3omni.nvfp4 import pack_tensor
    from pytest_q3omni.nvfp4.reference import reference_pack

    target = np.empty_like(weight)
    copy = Baseline("numpy.copyto of the same bytes", lambda: np.copyto(target, weight))
    packed = measure(
        benchmark, lambda: pack_tensor(weight), copy, gigabytes_per_second(weight.nbytes),
        rounds=50, packages=_PACKAGES, bytes=weight.nbytes, shape=weight.shape,
    )  # fmt: skip
    codes, scales, global_scale = reference_pack(weight)
    assert packed.codes.tobytes() == codes.tobytes()
    assert packed.block_scale.tobytes() == scales.tobytes()
    assert packed.global_scale == global_scale


@pytest.mark.benchmark(group="unpacking")
def test_unpacking(benchmark: Any, weight: Any) -> None:
    """Into a reused buffer, against the rules in plain numpy, array operation by array operation.

    A fresh result of 12 MB costs nothing or three times the unpacking, as the system's allocator likes.
    """
    import numpy as np

    from pytest_q3omni.nvfp4 import pack_tensor
    from pytest_q3omni.nvfp4.codec import unpack_into
    from pytest_q3omni.nvfp4.reference import reference_unpack

    packed, values = pack_tensor(weight), np.empty(weight.shape, np.float32)
    plain = Baseline("the rules in plain numpy (nvfp4/reference.py)", lambda: reference_unpack(*packed))
    measure(
        benchmark, lambda: unpack_into(packed, values), plain, gigabytes_per_second(weight.nbytes),
        rounds=50, packages=_PACKAGES, bytes=weight.nbytes, shape=weight.shape,
    )  # fmt: skip
    assert np.array_equal(values, reference_unpack(*packed))
