"""The fast codec is the oracle, bit for bit; and what it refuses."""

from __future__ import annotations

import threading

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from nvfp4_tensors import CLASSES, SCALES, bf16, finite, first_difference, make, trained

from pytest_q3omni.errors import FormatError
from pytest_q3omni.nvfp4 import Packed, codec, pack_tensor, unpack_tensor
from pytest_q3omni.nvfp4.kernels import threads
from pytest_q3omni.nvfp4.reference import reference_global_scale, reference_pack, reference_unpack

pytestmark = pytest.mark.tiny

BF16 = ml_dtypes.bfloat16
weights = hnp.arrays(np.uint16, st.tuples(st.integers(1, 3), st.sampled_from([16, 32, 64]))).map(finite)
positive_floats = st.floats(min_value=2.0**-149, max_value=2.0**127, width=32, allow_subnormal=True).map(np.float32)


def assert_is_the_oracle(weight: np.ndarray, global_scale: np.float32 | None, context: str = "") -> None:
    packed, expected = pack_tensor(weight, global_scale), reference_pack(weight, global_scale)
    difference = first_difference(packed.block_scale, expected[1], "block scale")
    difference = difference or first_difference(packed.codes, expected[0], "codes")
    assert not difference, f"{context}global scale {packed.global_scale}: {difference}"
    assert packed.global_scale == expected[2]
    assert unpack_tensor(packed).tobytes() == reference_unpack(*expected).tobytes(), f"{context}unpacked values differ"


@given(weights, st.none() | positive_floats)
@settings(deadline=None, max_examples=300)
def test_packs_like_the_oracle(weight: np.ndarray, global_scale: np.float32 | None) -> None:
    assert_is_the_oracle(weight, global_scale)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", CLASSES)
def test_packs_hard_tensors_like_the_oracle(name: str, scale: str) -> None:
    for seed in range(100, 112):
        weight = make(name, seed)
        global_scale = SCALES[scale](np.random.default_rng(seed), reference_global_scale(weight))
        assert_is_the_oracle(weight, global_scale, f"class {name}, seed {seed}, global scale {scale}: ")


def test_every_finite_pattern_in_one_tensor() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    bits = bits[(bits & 0x7FFF) < 0x7F80]
    np.random.default_rng(0).shuffle(bits)
    assert_is_the_oracle(bits.view(BF16).reshape(-1, 64), None)
    assert_is_the_oracle(np.sort(bits).view(BF16).reshape(-1, 64), np.float32(1e-3))


def test_types_and_shapes_of_a_packed_weight() -> None:
    packed = pack_tensor(make("trained", 1))
    assert (packed.codes.dtype, packed.codes.shape) == (np.uint8, (1, 8))
    assert (packed.block_scale.dtype, packed.block_scale.shape) == (ml_dtypes.float8_e4m3fn, (1, 1))
    assert isinstance(packed.global_scale, np.float32)
    assert unpack_tensor(packed).dtype == np.float32


def test_all_zero_tensor() -> None:
    weight = np.full((2, 32), -0.0, BF16)
    packed = pack_tensor(weight)
    assert not packed.codes.any()
    assert (packed.block_scale.astype(np.float32) == 1).all()
    assert packed.global_scale == 1
    assert not unpack_tensor(packed).any()
    assert codec.block_errors(weight, packed).relative == 0


def test_zero_block_and_given_scale() -> None:
    weight = make("zeros_and_blocks", 0)
    zero = (weight.reshape(8, -1, 16) == 0).all(axis=-1)
    assert zero.any()
    assert not zero.all()
    assert (pack_tensor(weight).block_scale.astype(np.float32)[zero] == 1).all()


@pytest.mark.parametrize("transform", ["columns reversed", "every other row", "read only", "misaligned", "transposed"])
def test_any_memory_layout(transform: str) -> None:
    weight = make("trained", 3)
    if transform == "misaligned":
        raw = np.zeros(weight.nbytes + 1, np.uint8)
        raw[1:] = np.frombuffer(weight.tobytes(), np.uint8)
        weight = raw[1:].view(BF16).reshape(weight.shape)
        assert not weight.flags.aligned
    elif transform == "read only":
        weight.flags.writeable = False
    else:
        weight = {"columns reversed": weight[:, ::-1], "every other row": weight[::2], "transposed": weight[:, :16].T}[
            transform
        ]
    assert_is_the_oracle(weight, None)


def big() -> np.ndarray:
    return trained(np.random.default_rng(5), 64, 8192)


def test_threads_do_not_change_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = big()
    monkeypatch.setattr(threads, "cores", lambda: 1)
    alone, values, errors = (
        pack_tensor(weight),
        unpack_tensor(pack_tensor(weight)),
        codec.block_errors(weight, pack_tensor(weight)),
    )
    monkeypatch.setattr(threads, "cores", lambda: 3)
    monkeypatch.setattr(threads, "_pool", None)
    together = pack_tensor(weight)
    assert not first_difference(together.codes, alone.codes, "codes")
    assert not first_difference(together.block_scale, alone.block_scale, "block scale")
    assert unpack_tensor(together).tobytes() == values.tobytes()
    assert codec.block_errors(weight, together)[1:] == errors[1:]


def test_ranges_cover_all_blocks_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 4)
    monkeypatch.setattr(threads, "_pool", None)
    for blocks in (1, threads.SMALLEST_RANGE, 3 * threads.SMALLEST_RANGE + 5, 100 * threads.SMALLEST_RANGE + 1):
        ranges = threads.over_ranges(lambda first, last: (first, last), blocks)
        assert [block for first, last in ranges for block in range(first, last)] == list(range(blocks))
        assert len(ranges) == max(1, min(4, blocks // threads.SMALLEST_RANGE))


def test_several_callers_at_once() -> None:
    weight, expected = big(), pack_tensor(big()).codes.tobytes()
    results: list[bytes] = []
    callers = [threading.Thread(target=lambda: results.append(pack_tensor(weight).codes.tobytes())) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert results == [expected] * 8


def test_rows_are_independent() -> None:
    weight = make("wide", 3)
    whole = pack_tensor(weight)
    codes, scales = np.empty_like(whole.codes), np.empty(whole.block_scale.shape, np.uint8)
    for first in range(0, len(weight), 5):
        rows = slice(first, first + 5)
        codec.pack_into(weight[rows], whole.global_scale, codes[rows], scales[rows])
    assert not first_difference(codes, whole.codes, "codes")
    assert not first_difference(scales, whole.block_scale, "block scale")
    part = Packed(whole.codes[2:4], whole.block_scale[2:4], whole.global_scale)
    assert (unpack_tensor(part) == unpack_tensor(whole)[2:4]).all()


@pytest.mark.parametrize("name", CLASSES)
def test_amax_and_global_scale(name: str) -> None:
    for seed in range(6):
        weight = make(name, seed)
        largest = codec.amax(weight)
        assert largest == np.abs(weight.astype(np.float32)).max()
        assert codec.global_scale_for(largest) == reference_global_scale(weight)


@pytest.mark.parametrize("values", [[-3.0, -1.0], [2.0, -1.0], [-0.0, -0.0], [0.0, -2.0], [1.0, 3.0]])
def test_amax_of_either_sign(values: list[float]) -> None:
    assert codec.amax(np.array(values, BF16)) == max(abs(value) for value in values)


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("scale", [None, 0.01])
def test_nan_and_inf_are_refused_by_position(value: float, scale: float | None) -> None:
    weight = big()
    weight[40, 77] = weight[60, 0] = value
    with pytest.raises(FormatError, match=r"\(40, 77\), the first of 2") as caught:
        pack_tensor(weight, scale, where="experts.3.up_proj.weight")
    assert str(caught.value).startswith(f"experts.3.up_proj.weight: {np.float32(value)}")
    with pytest.raises(FormatError, match=r"\(40, 77\)"):
        codec.amax(weight)


@pytest.mark.parametrize(
    ("weight", "named"),
    [
        (np.zeros((2, 32), np.float32), "float32"),
        (np.zeros((2, 32), np.uint16), "uint16"),
        (np.zeros(32, BF16), "1 dimensions"),
        (np.zeros((2, 2, 32), BF16), "3 dimensions"),
        (np.zeros((2, 40), BF16), "in_features = 40"),
        (np.zeros((0, 32), BF16), "empty"),
        (np.zeros((2, 0), BF16), "empty"),
    ],
)
def test_wrong_weights_are_refused(weight: np.ndarray, named: str) -> None:
    with pytest.raises(FormatError, match=named) as caught:
        pack_tensor(weight, where="visual.patch_embed")
    assert caught.value.where == "visual.patch_embed"


def test_amax_refuses_an_empty_tensor() -> None:
    with pytest.raises(FormatError, match="empty"):
        codec.amax(np.zeros((0,), BF16))


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf, 1e39, 1e-46])
def test_wrong_global_scales_are_refused(scale: float) -> None:
    weight = make("trained", 0)
    with pytest.raises(FormatError, match="global scale"):
        pack_tensor(weight, scale)
    with pytest.raises(FormatError, match="global scale"):
        codec.block_errors(weight, pack_tensor(weight)._replace(global_scale=scale))


@pytest.mark.parametrize("largest", [np.nan, np.inf, -1.0])
def test_wrong_amax_is_refused(largest: float) -> None:
    with pytest.raises(FormatError):
        codec.global_scale_for(largest)


def test_wrong_buffers_are_refused() -> None:
    weight = make("trained", 0)
    codes, scales = np.empty((8, 32), np.uint8), np.empty((8, 4), np.uint8)
    for bad in (codes[:, :16], np.empty((8, 64), np.uint8)[:, ::2], codes.view(np.int8)):
        with pytest.raises(FormatError, match="codes_out"):
            codec.pack_into(weight, 1.0, bad, scales)
    scales.flags.writeable = False
    with pytest.raises(FormatError, match="scales_out"):
        codec.pack_into(weight, 1.0, codes, scales)
    with pytest.raises(FormatError, match="out is float64"):
        codec.unpack_into(pack_tensor(weight), np.empty((8, 64)))


def test_parts_that_do_not_belong_together_are_refused() -> None:
    packed = pack_tensor(make("trained", 0))
    for wrong in (
        packed._replace(codes=packed.codes.view(np.int8)),
        packed._replace(block_scale=packed.block_scale.view(np.uint8)),
        packed._replace(block_scale=packed.block_scale[:, :-1]),
        packed._replace(codes=packed.codes[:4]),
        packed._replace(codes=packed.codes[:, :-1]),
        packed._replace(codes=packed.codes[0]),
        packed._replace(codes=packed.codes[0, 0]),
    ):
        with pytest.raises(FormatError):
            unpack_tensor(wrong)
    with pytest.raises(FormatError, match="source of shape"):
        codec.block_errors(make("trained", 2), packed)


class TestBlockErrors:
    @pytest.mark.parametrize("scale", SCALES)
    @pytest.mark.parametrize("name", CLASSES)
    def test_agrees_with_numpy(self, name: str, scale: str) -> None:
        for seed in range(6):
            weight = make(name, seed)
            packed = pack_tensor(weight, SCALES[scale](np.random.default_rng(seed), reference_global_scale(weight)))
            values = unpack_tensor(packed)
            if not np.isfinite(values).all():
                continue
            exact = weight.astype(np.float64)
            squares, errors = exact**2, (exact - values) ** 2
            per_block = errors.reshape(len(weight), -1, 16).sum(axis=-1)
            per_block = np.sqrt(per_block / np.maximum(squares.reshape(len(weight), -1, 16).sum(axis=-1), 1e-300))
            found = codec.block_errors(weight, packed)
            assert found.relative == pytest.approx(np.sqrt(errors.sum() / squares.sum()), rel=1e-5)
            assert found.worst == pytest.approx(per_block.max(), rel=1e-5)
            assert per_block[found.worst_block] == pytest.approx(per_block.max(), rel=1e-5)
            assert found.worst_share <= 1

    def test_trained_weights(self) -> None:
        found = codec.block_errors(big(), pack_tensor(big()))
        assert 0.09 < found.relative < 0.1
        assert found.worst < 0.2

    def test_finds_the_one_wrong_block(self) -> None:
        weight = big()
        packed = pack_tensor(weight)
        packed.block_scale.view(np.uint8)[33, 400] += 8
        found = codec.block_errors(weight, packed)
        assert found.worst_block == found.worst_share_block == (33, 400)
        assert found.worst > 0.9
        assert found.worst_share > 1

    @pytest.mark.parametrize("side", ["scale", "source NaN", "source Inf"])
    def test_what_is_not_finite_is_infinitely_wrong(self, side: str) -> None:
        """In the last block, after others have set a worst error."""
        weight = big()
        packed = pack_tensor(weight)
        if side == "scale":
            packed.block_scale.view(np.uint8)[63, 511] = 0x7F
        else:
            weight[63, 8191] = np.nan if side == "source NaN" else np.inf
        found = codec.block_errors(weight, packed)
        assert found == (np.inf, np.inf, (63, 511), np.inf, (63, 511))

    def test_something_from_nothing_is_infinitely_wrong(self) -> None:
        packed = pack_tensor(bf16(np.ones((1, 32))))
        found = codec.block_errors(np.zeros((1, 32), BF16), packed)
        assert found.relative == found.worst == np.inf
        assert found.worst_share > 1e6

    def test_identical_values_have_no_error(self) -> None:
        weight = bf16(np.tile(np.array([6, 4, 3, 2, 1.5, 1, 0.5, 0] * 2), (2, 2)))
        assert codec.block_errors(weight, pack_tensor(weight, 1.0)) == (0, 0, (0, 0), 0, (0, 0))
