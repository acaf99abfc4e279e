"""Every layout: written and read by the same file."""

from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from pytest_q3omni.calibrate.record import load_record
from pytest_q3omni.layouts import layout, layout_names, layout_of, suffixes
from pytest_q3omni.nvfp4 import Packed, unpack_tensor
from pytest_q3omni.omni.checkpoint import open_checkpoint
from pytest_q3omni.omni.tiny import checkpoint_path, record_path
from pytest_q3omni.pack.write import write_checkpoint
from pytest_q3omni.plan.build import build_plan
from pytest_q3omni.records import TensorInfo
from pytest_q3omni.verify.claim import Claim

pytestmark = pytest.mark.tiny

RECIPES = ["nvfp4-default", "nvfp4-mlp-weight-only"]


@pytest.mark.parametrize("name", layout_names())
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_layout_reads_back_what_it_declares(name: str, recipe: str) -> None:
    plan = build_plan(checkpoint_path(), recipe, layout_name=name)
    block = layout(name).quantization_config(plan)
    assert layout_of(block) is layout(name)
    declared = layout(name).declared(block)
    assert not declared.faults
    linears = {t.module: t.source for t in plan.tensors if len(t.source.shape) == 2 and "embed" not in t.module}
    claim = Claim(declared, linears)
    packed = {tensor.module for tensor in plan.packed}
    for module in linears:
        assert claim.scheme(module) == (plan.scheme if module in packed else None), module


@pytest.mark.parametrize("name", layout_names())
def test_nobody_elses_block_is_read(name: str) -> None:
    assert not layout(name).reads({})
    assert not layout(name).reads({"quant_method": "gptq"})
    assert not layout(name).reads({"quant_method": ["compressed-tensors"]})


@pytest.mark.parametrize("name", layout_names())
def test_roles_have_names_of_their_own(name: str) -> None:
    assert len(set(suffixes(layout(name)))) == 4
    weight = TensorInfo("m.weight", "BF16", (64, 32))
    assert len(layout(name).targets(weight, "w4a16")) == 3
    assert [t.dtype for t in layout(name).targets(weight, "fp8")][:1] == ["F8_E4M3"]
    assert len(layout(name).targets(weight, "fp8_dynamic")) == 2


def test_both_layouts_hold_the_same_weights(tmp_path: Path) -> None:
    """Codes and block scales are equal to the byte; the global scales of one divide, those of the other multiply."""
    values = {}
    for name in layout_names():
        plan = build_plan(checkpoint_path(), "nvfp4-default", layout_name=name)
        out = tmp_path / name
        write_checkpoint(
            open_checkpoint(checkpoint_path()), plan, out, record=load_record(record_path()), record_files=record_path()
        )
        made, ends = open_checkpoint(out), suffixes(layout(name))
        values[name] = {tensor.module: [made.array(f"{tensor.module}.{end}") for end in ends] for tensor in plan.packed}
    one, other = (values[name] for name in ("modelopt", "compressed-tensors"))
    assert one.keys() == other.keys()
    for module, (codes, scales, weight_scale, input_scale) in one.items():
        assert np.array_equal(codes, other[module][0])
        assert np.array_equal(scales.view(np.uint8), other[module][1].view(np.uint8))
        np.testing.assert_array_max_ulp(np.float32(1) / other[module][2][0], weight_scale, 1)
        np.testing.assert_array_max_ulp(np.float32(1) / other[module][3][0], input_scale, 1)
        assert other[module][2].shape == other[module][3].shape == (1,)


def test_an_inverted_scale_dequantizes_to_the_weight() -> None:
    codes = np.full((1, 8), 0x22, np.uint8)  # E2M1 code 2 is 1.0
    scales = np.full((1, 1), 2.0).astype(ml_dtypes.float8_e4m3fn)
    stored = np.float32(8)
    assert set(unpack_tensor(Packed(codes, scales, np.float32(1) / stored)).ravel()) == {0.25}


def test_a_plan_without_packed_weights_declares_nothing() -> None:
    plan = build_plan(checkpoint_path(), "bf16")
    assert plan.scheme is None
    assert replace(plan, numerics="w4a4").scheme == "w4a4"
