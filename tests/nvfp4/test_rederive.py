"""Comparing with what packing gives: bytes as the oracle says, errors as the unpacked values say."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from nvfp4_tensors import CLASSES, SCALES, finite, make, trained

from pytest_q3omni.errors import FormatError
from pytest_q3omni.nvfp4 import Packed, codec
from pytest_q3omni.nvfp4.codec import BlockErrors
from pytest_q3omni.nvfp4.rederive import Rederived
from pytest_q3omni.nvfp4.reference import reference_global_scale, reference_pack

pytestmark = pytest.mark.tiny

BF16 = ml_dtypes.bfloat16
weights = hnp.arrays(np.uint16, st.tuples(st.integers(1, 5), st.sampled_from([16, 48, 64]))).map(finite)
positive_floats = st.floats(min_value=2.0**-149, max_value=2.0**127, width=32, allow_subnormal=True).map(np.float32)


def rederived(weight: np.ndarray, packed: Packed, rows: int | None = None) -> Rederived:
    result = Rederived(weight.shape[1], packed.global_scale)
    for first in range(0, len(weight), rows or len(weight)):
        part = slice(first, first + (rows or len(weight)))
        result.add(weight[part], packed._replace(codes=packed.codes[part], block_scale=packed.block_scale[part]))
    return result


def assert_same_errors(found: BlockErrors, expected: BlockErrors) -> None:
    """As the kernel that unpacks finds them. Of errors within the bound only that they are is known."""
    assert found.relative == pytest.approx(expected.relative, rel=1e-5)
    assert found.worst == pytest.approx(expected.worst, rel=1e-5)
    if expected.worst_share > 1:
        assert found.worst_share == expected.worst_share
        assert found.worst_share_block == expected.worst_share_block
    else:
        assert found.worst_share <= 1


def assert_judged_like_the_oracle(weight: np.ndarray, packed: Packed, rows: int | None = None) -> None:
    codes, scales, _ = reference_pack(weight, packed.global_scale)
    other = (packed.codes != codes).reshape(*scales.shape, 8).any(axis=-1)
    other |= packed.block_scale.view(np.uint8) != scales.view(np.uint8)
    found = rederived(weight, packed, rows)
    assert found.differing == np.count_nonzero(other)
    assert found.first_differing == (tuple(np.argwhere(other)[0]) if other.any() else None)
    assert found.amax == np.abs(weight.astype(np.float32)).max()
    assert_same_errors(found.errors, codec.block_errors(weight, packed))


@given(weights, st.none() | positive_floats)
@settings(deadline=None, max_examples=300)
def test_what_the_oracle_packs_is_exact(weight: np.ndarray, global_scale: np.float32 | None) -> None:
    packed = Packed(*reference_pack(weight, global_scale))
    assert rederived(weight, packed).differing == 0
    assert_judged_like_the_oracle(weight, packed)


@given(weights, st.none() | positive_floats, st.data())
@settings(deadline=None, max_examples=300)
def test_every_other_byte_is_found(weight: np.ndarray, global_scale: np.float32 | None, data: st.DataObject) -> None:
    """Codes and scales of any value: NaN, zero and negative scales among them."""
    packed = Packed(*reference_pack(weight, global_scale))
    for stored in (packed.codes, packed.block_scale.view(np.uint8)):
        places = data.draw(st.lists(st.integers(0, stored.size - 1), max_size=3))
        stored.reshape(-1)[places] = data.draw(hnp.arrays(np.uint8, len(places)))
    assert_judged_like_the_oracle(weight, packed, rows=data.draw(st.integers(1, 5)))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", CLASSES)
def test_hard_tensors(name: str, scale: str) -> None:
    for seed in range(6):
        weight = make(name, seed)
        global_scale = SCALES[scale](np.random.default_rng(seed), reference_global_scale(weight))
        packed = Packed(*reference_pack(weight, global_scale))
        assert_judged_like_the_oracle(weight, packed, rows=1 + seed)
        packed.codes[-1, -1] ^= 0x10
        assert_judged_like_the_oracle(weight, packed)


def big() -> np.ndarray:
    return trained(np.random.default_rng(7), 64, 8192)


@pytest.mark.parametrize("seed", range(8))
def test_the_worst_block(seed: int) -> None:
    weight = trained(np.random.default_rng(seed), 9, 240)
    packed = codec.pack_tensor(weight)
    assert rederived(weight, packed).errors.worst_block == codec.block_errors(weight, packed).worst_block


@pytest.mark.parametrize("step", [1, 3, 1000, 1 << 20])
def test_steps_do_not_change_what_is_found(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_q3omni.nvfp4.rederive._STEP", step)
    weight = big()[:4]
    packed = codec.pack_tensor(weight)
    packed.codes[2, 4095] ^= 0x77
    packed.block_scale.view(np.uint8)[3, 0] += 8
    assert rederived(weight, packed).first_differing == (2, 511)
    assert_judged_like_the_oracle(weight, packed, rows=3)


@pytest.mark.parametrize("stored", [0x00, 0x80, 0x7F, 0xFF])
def test_scales_that_no_packer_writes(stored: int) -> None:
    weight = big()
    packed = codec.pack_tensor(weight)
    packed.block_scale.view(np.uint8)[63, 511] = stored
    found = rederived(weight, packed)
    assert (found.differing, found.first_differing) == (1, (63, 511))
    assert found.errors.worst_share > 1
    assert_judged_like_the_oracle(weight, packed)


def test_everything_differs() -> None:
    weight = big()
    packed = codec.pack_tensor(weight)
    packed.codes[...] ^= 0x88
    assert rederived(weight, packed).differing == packed.block_scale.size
    assert_judged_like_the_oracle(weight, packed)


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_a_source_that_is_not_finite(value: float) -> None:
    weight = big()
    packed = codec.pack_tensor(weight)
    weight[40, 77] = value
    found = rederived(weight, packed, rows=16)
    assert found.amax == np.inf
    assert found.errors.worst_share == np.inf
    assert found.errors.worst_share_block == (40, 4)


@pytest.mark.parametrize("size", [2.0**-120, 2.0**-60, 2.0**-45, 2.0**45, 2.0**60, 2.0**100])
def test_sizes_whose_squares_float32_may_not_hold(size: float) -> None:
    weight = big()[:8]
    weight[3] = (weight[3].astype(np.float32) * np.float32(size)).astype(BF16)
    assert_judged_like_the_oracle(weight, codec.pack_tensor(weight))


def test_zeros_are_exact() -> None:
    weight = np.full((3, 80), -0.0, BF16)
    found = rederived(weight, codec.pack_tensor(weight))
    assert (found.differing, found.amax, found.errors) == (0, 0, BlockErrors(0, 0, (0, 0), 0, (0, 0)))


def test_values_between_codes_have_their_own_error() -> None:
    """Every magnitude that one scale can meet, exact values and ties among them, in float64."""
    values = np.arange(0, 6.0625, 1 / 32).astype(BF16)
    weight = np.resize(np.stack([values, -values]), (32, 208)).astype(BF16)
    packed = codec.pack_tensor(weight, 1.0)
    assert_judged_like_the_oracle(weight, packed)


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf])
def test_wrong_global_scales_are_refused(scale: float) -> None:
    with pytest.raises(FormatError, match="global scale") as caught:
        Rederived(32, scale, where="experts.3.up_proj")
    assert caught.value.where == "experts.3.up_proj"


def test_parts_that_do_not_belong_together_are_refused() -> None:
    weight = make("trained", 0)
    packed = codec.pack_tensor(weight)
    with pytest.raises(FormatError, match="source of shape"):
        Rederived(64, 1.0).add(weight[:4], packed)
    with pytest.raises(FormatError, match="source of shape"):
        Rederived(32, 1.0).add(weight, packed)
    with pytest.raises(FormatError, match="float32"):
        Rederived(64, 1.0).add(weight.astype(np.float32), packed)
    with pytest.raises(FormatError, match="block scales"):
        Rederived(64, 1.0).add(weight, packed._replace(block_scale=packed.block_scale[:, :-1]))
