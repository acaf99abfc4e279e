"""ModelOpt's layout: written and read by the same file."""

from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_q3omni.layouts import layout
from pytest_q3omni.plan.build import build_plan
from pytest_q3omni.records import TensorInfo

pytestmark = pytest.mark.tiny

FULL_SIZE = Path(str(files("pytest_q3omni.omni") / "qwen3_omni_30b_config.json"))


def test_full_size_block_has_one_entry_per_unit_that_engines_fuse() -> None:
    """48 layers x (q, k, v, o, experts) = 240 entries instead of 18,624."""
    block = layout("modelopt").quantization_config(build_plan(FULL_SIZE, "nvfp4-default"))
    assert block["quant_algo"] == "MIXED_PRECISION"
    assert len(block["quantized_layers"]) == 240
    assert block["quantized_layers"]["thinker.model.layers.47.mlp.experts"] == {"quant_algo": "NVFP4", "group_size": 16}
    routers = [f"thinker.model.layers.{layer}.mlp.gate" for layer in range(48)]
    families = ["code2wav*", "talker*", "thinker.audio_tower*", "thinker.visual*"]
    assert block["ignore"] == [*families, "thinker.lm_head", *sorted(routers)]


def test_no_ignore_entry_is_part_of_a_packed_modules_name() -> None:
    """vLLM skips every layer whose name contains an ignore entry."""
    plan = build_plan(FULL_SIZE, "nvfp4-default")
    for entry in layout("modelopt").quantization_config(plan)["ignore"]:
        assert not any(entry.removesuffix("*") in tensor.module for tensor in plan.packed), entry


def test_targets_of_a_weight() -> None:
    weight = TensorInfo("m.weight", "BF16", (64, 32))
    assert layout("modelopt").targets(weight, "w4a4") == (
        TensorInfo("m.weight", "U8", (64, 16)),
        TensorInfo("m.weight_scale", "F8_E4M3", (64, 2)),
        TensorInfo("m.weight_scale_2", "F32", ()),
        TensorInfo("m.input_scale", "F32", ()),
    )
    assert layout("modelopt").targets(weight, "w4a16") == layout("modelopt").targets(weight, "w4a4")[:3]


@pytest.mark.parametrize(
    ("block", "where"),
    [
        ({"quant_method": "modelopt"}, "quant_algo"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4_AWQ"}, "quant_algo"),
        ({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}, "quantized_layers"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 32}, "group_size"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": "lm_head"}, "ignore"),
        (
            {
                "quant_method": "modelopt",
                "quant_algo": "MIXED_PRECISION",
                "quantized_layers": {"m": {"quant_algo": "INT4"}},
            },
            "quantized_layers.m.quant_algo",
        ),
        (
            {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": {"m": 3}},
            "quantized_layers.m.quant_algo",
        ),
    ],
)
def test_a_wrong_block_is_a_fault_with_a_place(block: dict, where: str) -> None:
    faults = layout("modelopt").declared(block).faults
    assert [fault[0] for fault in faults] == [where]
    assert all(fault[3] for fault in faults)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["NVFP4", "MIXED_PRECISION"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from(["quant_algo", "quantized_layers", "ignore", "group_size", "exclude_modules", "quantization"]),
        values,
    )
)
def test_nonsense_never_raises(block: dict) -> None:
    declared = layout("modelopt").declared({"quant_method": "modelopt", **block})
    assert declared.faults or declared.modules or declared.everything
