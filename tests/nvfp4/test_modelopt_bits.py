"""Our bytes are ModelOpt's bytes: `NVFP4QTensor.quantize` on 780 tensors that are hard to pack."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from nvfp4_tensors import CLASSES, SCALES, first_difference, make

from pytest_q3omni.nvfp4 import Packed, pack_tensor, unpack_tensor
from pytest_q3omni.nvfp4.codec import global_scale_for
from pytest_q3omni.nvfp4.kernels.tables import tables_for
from pytest_q3omni.nvfp4.rederive import Rederived

pytestmark = pytest.mark.tiny

_REASON = "needs the quantize extra: pip install pytest-q3omni[quantize]"
torch = pytest.importorskip("torch", reason=_REASON)
pytest.importorskip("modelopt", reason=_REASON)

SEEDS = range(12)


@pytest.fixture(scope="module")
def quantizer():
    from modelopt.torch.quantization.qtensor.nvfp4_tensor import NVFP4QTensor

    return NVFP4QTensor


def to_torch(weight: np.ndarray):
    return torch.from_numpy(weight.view(np.int16).copy()).view(torch.bfloat16)


def modelopt_pack(quantizer, weight: np.ndarray, global_scale: np.float32 | None):
    given = None if global_scale is None else torch.tensor(float(global_scale), dtype=torch.float32)
    quantized, scale, scale_2 = quantizer.quantize(to_torch(weight), 16, weights_scaling_factor_2=given)
    return quantized, scale, scale_2


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", CLASSES)
def test_same_bytes(quantizer, name: str, scale: str) -> None:
    for seed in SEEDS:
        weight = make(name, seed)
        natural = global_scale_for(np.abs(weight.astype(np.float32)).max())
        given = SCALES[scale](np.random.default_rng(seed), natural)
        ours = pack_tensor(weight, given)
        quantized, block_scale, global_scale = modelopt_pack(quantizer, weight, given)
        difference = (
            first_difference(ours.block_scale, block_scale.view(torch.uint8).numpy(), "block scale")
            or first_difference(ours.codes, quantized._quantized_data.numpy(), "codes")
            or ("" if ours.global_scale == global_scale.numpy() else f"global scale {ours.global_scale}")
        )
        assert not difference, f"class {name}, seed {seed}, global scale {scale} ({ours.global_scale}): {difference}"
        theirs = quantized.dequantize(
            dtype=torch.float32, scale=block_scale, double_scale=global_scale, block_sizes={-1: 16}
        )
        unpacked = unpack_tensor(ours)
        assert unpacked.tobytes() == theirs.numpy().tobytes(), f"class {name}, seed {seed}: dequantized values differ"


def test_an_all_zero_tensor_is_where_we_differ(quantizer) -> None:
    weight = np.zeros((2, 32), ml_dtypes.bfloat16)
    _, block_scale, global_scale = modelopt_pack(quantizer, weight, None)
    assert float(global_scale) == 0
    assert bool(block_scale.float().isnan().all()), "ModelOpt now defines the scales of a zero tensor: follow it?"
    assert not np.isnan(unpack_tensor(pack_tensor(weight))).any()


def test_an_all_zero_tensor_in_a_live_group_is_not(quantizer) -> None:
    weight = np.zeros((2, 32), ml_dtypes.bfloat16)
    quantized, block_scale, _ = modelopt_pack(quantizer, weight, np.float32(0.01))
    ours = pack_tensor(weight, 0.01)
    assert not first_difference(ours.codes, quantized._quantized_data.numpy(), "codes")
    assert not first_difference(ours.block_scale, block_scale.view(torch.uint8).numpy(), "block scale")


def test_flushing_subnormals_to_zero_does_not_change_our_bytes() -> None:
    weight, scale = make("subnormal", 3), np.float32(2.0**-126)  # normal itself; times any block scale it is not
    before = pack_tensor(weight, scale)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormals")
    try:
        tables_for.cache_clear()
        after = pack_tensor(weight, scale)
        rederived = Rederived(weight.shape[1], scale)
        rederived.add(weight, before)
    finally:
        torch.set_flush_denormal(False)
    assert isinstance(after, Packed)
    assert not first_difference(after.codes, before.codes, "codes")
    assert not first_difference(after.block_scale, before.block_scale, "block scale")
    assert rederived.differing == 0
