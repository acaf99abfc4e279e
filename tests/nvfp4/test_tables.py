"""The integer tables against the oracle's float32 divisions: every magnitude, every scale code."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from pytest_q3omni.nvfp4 import format as nvfp4
from pytest_q3omni.nvfp4.kernels.tables import INFINITY_BITS, tables_for
from pytest_q3omni.nvfp4.reference import reference_block_scale, reference_code, reference_quotient

pytestmark = pytest.mark.tiny

MAGNITUDES = np.arange(INFINITY_BITS, dtype=np.uint16)

_RNG = np.random.default_rng(20)
GLOBAL_SCALES = [
    *(np.float32(2.0**exponent) for exponent in (-149, -148, -147, -140, -127, -126, -100, -20, 0, 20, 100, 126, 127)),
    *(np.float32(value) for value in (3e-45, 1e-40, 1.1754942e-38, 1.1754944e-38, 4.2e-5, 1 / 2688, 1.26e35, 3.4e38)),
    *(np.float32(value) for value in 10.0 ** _RNG.uniform(-44, 38, 12)),
    *(np.float32(value / 2688) for value in _RNG.uniform(0.01, 2, 12)),
]


@pytest.mark.parametrize("global_scale", GLOBAL_SCALES)
def test_block_scale_of_every_magnitude(global_scale: np.float32) -> None:
    weight = np.zeros((len(MAGNITUDES), 16), np.uint16)
    weight[:, 3] = MAGNITUDES
    expected = reference_block_scale(weight.view(ml_dtypes.bfloat16), global_scale).view(np.uint8)[:, 0]
    actual = tables_for(float(global_scale)).scale_of[:INFINITY_BITS]
    wrong = np.flatnonzero(actual != expected)
    assert not len(wrong), f"amax 0x{wrong[0]:04x}: code {actual[wrong[0]]:#x}, expected {expected[wrong[0]]:#x}"


@pytest.mark.parametrize("global_scale", GLOBAL_SCALES)
def test_code_of_every_magnitude_under_every_block_scale(global_scale: np.float32) -> None:
    """Four million quotients for each global scale."""
    thresholds = tables_for(float(global_scale)).thresholds & 0xFFFF
    negative = (MAGNITUDES | np.uint16(0x8000)).view(ml_dtypes.bfloat16)[None]
    for code in range(1, nvfp4.E4M3_MAX_CODE + 1):
        scale = np.full((1, len(MAGNITUDES) // 16), code, np.uint8).view(ml_dtypes.float8_e4m3fn)
        if scale[0, 0].astype(np.float64) * float(global_scale) <= 2.0**-150:
            continue  # the product underflows: two scales that no weight leads to
        expected = reference_code(reference_quotient(negative, scale, global_scale))[0]
        reached = [threshold <= MAGNITUDES for threshold in thresholds[code]]
        actual = np.sum(reached[:7], axis=0) + nvfp4.SIGN_BIT * reached[7]
        wrong = np.flatnonzero(actual != expected)
        assert not len(wrong), f"scale 0x{code:02x}, weight -0x{wrong[0]:04x}: {actual[wrong[0]]}"


def test_e4m3_rounding_of_every_magnitude_is_that_of_ml_dtypes() -> None:
    """Both sides bare: without a global scale, an amax of six times `x` must get the code that ml_dtypes gives `x`."""
    bits = np.arange(0x3A80, 0x43E1, dtype=np.uint16)  # 2**-10 to 448: BF16 has 1 to 5 bits more than E4M3
    values = bits.view(ml_dtypes.bfloat16).astype(np.float32)
    sixfold = (6 * values).astype(ml_dtypes.bfloat16)
    exact = sixfold.astype(np.float32) == 6 * values
    assert exact.sum() > 600
    expected = values.clip(np.float32(2.0**-9)).astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
    assert (tables_for(1.0).scale_of[sixfold.view(np.uint16)] == expected)[exact].all()


def test_tables_are_shared_and_read_only() -> None:
    tables = tables_for(1.0)
    assert tables_for(1.0) is tables
    with pytest.raises(ValueError, match="read-only"):
        tables.scale_of[0] = 0
    thresholds = (tables.thresholds & 0xFFFF).astype(int)
    assert (tables.thresholds >> 16 == thresholds).all()
    assert (thresholds[:, :7] <= INFINITY_BITS).all()
    assert (np.diff(thresholds[:, :7], axis=1) >= 0).all()
