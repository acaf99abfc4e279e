"""Lengths of rows from block scales: as float64 arithmetic says, for every code and any shape."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from pytest_q3omni.nvfp4 import scales

pytestmark = pytest.mark.tiny

E4M3 = ml_dtypes.float8_e4m3fn


def plainly(block_scale: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.sqrt(((block_scale.astype(np.float64) * weights) ** 2).sum(axis=1))


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (5, 8), (768, 128), (300, 255)])
@pytest.mark.parametrize("chunk", [1, 1000, 1 << 16])
def test_any_shape(shape: tuple[int, int], chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scales, "_CHUNK", chunk)
    random = np.random.default_rng(shape)
    block_scale = random.integers(0, 0x7F, shape, dtype=np.uint8).view(E4M3)
    weights = random.lognormal(0, 2, shape[1])
    assert scales.scale_lengths(block_scale, weights) == pytest.approx(plainly(block_scale, weights), rel=1e-6)


def test_every_code_alone() -> None:
    codes = np.array([code for code in range(256) if code & 0x7F != 0x7F], np.uint8)
    for column in (0, 1):
        block_scale = np.zeros((len(codes), 2), np.uint8)
        block_scale[:, column] = codes
        lengths = scales.scale_lengths(block_scale.view(E4M3), np.array([3.0, 3.0]))
        assert lengths == pytest.approx(3 * np.abs(codes.view(E4M3).astype(np.float64)), rel=1e-6)


@pytest.mark.parametrize("code", [0x7F, 0xFF])
def test_nan_is_passed_on(code: int) -> None:
    block_scale = np.full((2, 4), 0x38, np.uint8)
    block_scale[1, 3] = code
    lengths = scales.scale_lengths(block_scale.view(E4M3), np.ones(4))
    assert lengths[0] == 2
    assert np.isnan(lengths[1])


@pytest.mark.parametrize("size", [2.0**-133, 1e-30, 1e30, 2.0**127])
def test_weights_whose_squares_float32_cannot_hold(size: float) -> None:
    block_scale = np.full((3, 16), 0x40, np.uint8).view(E4M3)
    assert scales.scale_lengths(block_scale, np.full(16, size)) == pytest.approx(np.full(3, 8 * size), rel=1e-6)


def test_weights_of_zero() -> None:
    assert not scales.scale_lengths(np.full((3, 16), 0x40, np.uint8).view(E4M3), np.zeros(16)).any()
