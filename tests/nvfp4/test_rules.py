"""The rules of known packers, to the bit: vectors of compressed-tensors 0.20, and its arithmetic written out."""

from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nvfp4_tensors import CLASSES

from pytest_q3omni.nvfp4 import pack_tensor
from pytest_q3omni.nvfp4.codec import Packed, bit_patterns
from pytest_q3omni.nvfp4.format import BLOCK_SIZE, E2M1_BOUNDS, E2M1_TIES_UP, SCALE_DIVISOR
from pytest_q3omni.nvfp4.kernels import blocks
from pytest_q3omni.nvfp4.rederive import Rederived
from pytest_q3omni.nvfp4.rules import DIVIDED, DIVIDED_WIDE, INVERTED, MODELOPT, Rule, likely_rule, rules
from pytest_q3omni.omni.safetensors_file import read_header

pytestmark = pytest.mark.tiny

VECTORS = Path(__file__).parents[1] / "layouts" / "data" / "compressed_tensors_vectors.safetensors"
_DTYPES = {"BF16": ml_dtypes.bfloat16, "F8_E4M3": ml_dtypes.float8_e4m3fn, "F32": np.float32, "U8": np.uint8}

Case = Mapping[str, np.ndarray]


def vectors() -> dict[str, dict[str, np.ndarray]]:
    content, found = VECTORS.read_bytes(), {}
    for name, entry in read_header(VECTORS).items():
        case, _, role = name.rpartition(".")
        data = np.frombuffer(content[entry.begin : entry.end], _DTYPES[entry.info.dtype]).reshape(entry.info.shape)
        found.setdefault(case, {})[role] = data
    return {name: case for name, case in found.items() if "weight" in case}


def packed_by(rule: Rule, weight: np.ndarray, parameter: np.float32) -> tuple[np.ndarray, np.ndarray]:
    """(codes, block scales as bytes), by the kernel with the rule's tables."""
    bits = bit_patterns(weight, "").reshape(-1, BLOCK_SIZE)
    codes, scales = np.empty((len(bits), BLOCK_SIZE // 2), np.uint8), np.empty(len(bits), np.uint8)
    blocks.pack_blocks(bits, *rule.tables(float(parameter)), codes, scales, 0, len(bits))
    return codes.reshape(len(weight), -1), scales.reshape(len(weight), -1)


def groups(cases: Mapping[str, Case]) -> dict[str, np.float32]:
    """Case -> the largest magnitude of its fused group: what all cases with the same two first labels share."""
    largest: dict[str, np.float32] = {}
    for name, case in cases.items():
        group = ".".join(name.split(".")[:2]) if name.startswith(("fused", "zeros.group")) else name
        amax = np.abs(case["weight"].astype(np.float32)).max()
        largest[group] = max(largest.get(group, np.float32(0)), amax)
    return {
        name: largest[".".join(name.split(".")[:2]) if name.startswith(("fused", "zeros.group")) else name]
        for name in cases
    }


def test_compressed_tensors_own_bytes() -> None:
    cases = vectors()
    for name, amax in groups(cases).items():
        case, rule = cases[name], DIVIDED_WIDE if name.startswith("float32") else DIVIDED
        parameter = rule.parameter(amax)
        assert rule.stored(parameter) == case["weight_global_scale"][0], name
        codes, scales = packed_by(rule, case["weight"], parameter)
        assert np.array_equal(codes, case["weight_packed"]), name
        assert np.array_equal(scales, case["weight_scale"].view(np.uint8)), name


def test_a_comparison_finds_them_the_same() -> None:
    cases = vectors()
    for name, amax in groups(cases).items():
        case, rule = cases[name], DIVIDED_WIDE if name.startswith("float32") else DIVIDED
        scale = np.float32(1) / case["weight_global_scale"][0]
        if not (np.isfinite(scale) and scale > 0):
            continue
        result = Rederived(case["weight"].shape[1], scale, rule.tables(float(rule.parameter(amax))))
        result.add(case["weight"], Packed(case["weight_packed"], case["weight_scale"], scale))
        assert result.differing == 0, name
        if name.startswith("trained"):
            assert 0.05 < result.errors.relative < 0.13, name
            other = Rederived(case["weight"].shape[1], scale, MODELOPT.tables(float(scale)))
            other.add(case["weight"], Packed(case["weight_packed"], case["weight_scale"], scale))
            assert other.errors.relative == pytest.approx(result.errors.relative, rel=1e-5)


def written_out(weight: np.ndarray, stored: np.float32, half: bool) -> tuple[np.ndarray, np.ndarray]:
    """compressed-tensors' arithmetic, operation by operation, in float32."""
    values = weight.astype(np.float32)
    with np.errstate(all="ignore"):
        sixth = np.abs(values).reshape(len(values), -1, BLOCK_SIZE).max(axis=-1) / np.float32(6)
        sixth = sixth.astype(ml_dtypes.bfloat16).astype(np.float32) if half else sixth
        scale = np.minimum(sixth * stored, np.float32(448)).astype(ml_dtypes.float8_e4m3fn)
        scale = np.where(scale.astype(np.float32) == 0, np.float32(0.125), scale.astype(np.float32)).astype(scale.dtype)
        quotient = values / np.repeat(scale.astype(np.float32) / stored, BLOCK_SIZE, axis=-1)
    code = np.zeros(quotient.shape, np.uint8)
    for bound, up in zip(E2M1_BOUNDS, E2M1_TIES_UP, strict=True):
        code += (np.abs(quotient) >= bound) if up else (np.abs(quotient) > bound)
    code |= np.uint8(8) * (quotient < 0)
    return code[:, 0::2] | code[:, 1::2] << 4, scale.view(np.uint8)


@pytest.mark.parametrize("name", CLASSES)
@given(seed=st.integers(0, 2**32 - 1), half=st.booleans(), factor=st.sampled_from([1.0, 0.5, 3.0, 2.0**-20]))
def test_tables_are_the_arithmetic(name: str, seed: int, half: bool, factor: float) -> None:
    weight = CLASSES[name](np.random.default_rng(seed), 4, 64)
    rule = DIVIDED if half else DIVIDED_WIDE
    stored = np.float32(rule.parameter(np.abs(weight.astype(np.float32)).max()) * np.float32(factor))
    if not (np.isfinite(stored) and stored > 0 and 1e-30 < stored < 1e30):
        return  # a scale beside the range of normal numbers, which nothing stores
    codes, scales = packed_by(rule, weight, stored)
    wanted_codes, wanted_scales = written_out(weight, stored, half)
    assert np.array_equal(scales, wanted_scales)
    assert np.array_equal(codes, wanted_codes)


@pytest.mark.parametrize("rule", [MODELOPT, INVERTED])
@given(seed=st.integers(0, 2**32 - 1))
def test_our_own_rule_in_both_layouts(rule: Rule, seed: int) -> None:
    weight = CLASSES["trained"](np.random.default_rng(seed), 4, 64)
    packed = pack_tensor(weight)
    parameter = rule.parameter(np.abs(weight.astype(np.float32)).max())
    codes, scales = packed_by(rule, weight, parameter)
    assert parameter == packed.global_scale
    assert rule.stored(parameter) == (packed.global_scale if rule is MODELOPT else np.float32(1) / packed.global_scale)
    assert np.array_equal(codes, packed.codes)
    assert np.array_equal(scales, packed.block_scale.view(np.uint8))


def test_all_zero_groups_have_the_scale_1() -> None:
    for rule in (*rules(inverted=True), *rules(inverted=False)):
        assert rule.stored(rule.parameter(np.float32(0))) == 1


def test_whose_scale_it_is() -> None:
    amax = np.float32(0.2373046875)
    for rule in (MODELOPT,):
        assert likely_rule(rule.stored(rule.parameter(amax)), inverted=False) is rule
    for rule in (DIVIDED, INVERTED):
        assert likely_rule(rule.stored(rule.parameter(amax)), inverted=True) is rule
    assert float(SCALE_DIVISOR) == 2688
