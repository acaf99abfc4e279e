"""compressed-tensors' config block: what is understood, and what is refused by name."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_q3omni.layouts import layout
from pytest_q3omni.records import TensorInfo

pytestmark = pytest.mark.tiny

LAYOUT = layout("compressed-tensors")
NVFP4: dict[str, Any] = {
    "num_bits": 4,
    "type": "float",
    "strategy": "tensor_group",
    "group_size": 16,
    "symmetric": True,
    "dynamic": False,
}
LOCAL = {**NVFP4, "dynamic": "local"}
FP8 = {"num_bits": 8, "type": "float", "strategy": "tensor", "symmetric": True, "dynamic": False}
ROWS, TOKENS = {**FP8, "strategy": "channel"}, {**FP8, "strategy": "token", "dynamic": True}


def block(weights: Any, inputs: Any = None, **fields: Any) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs}
    form = "float-quantized" if weights in (FP8, ROWS) else "nvfp4-pack-quantized"
    whole = {"quant_method": "compressed-tensors", "format": form, "config_groups": {"group_0": group}, "ignore": []}
    return {**whole, **fields}


@pytest.mark.parametrize(
    ("weights", "inputs", "scheme"),
    [(NVFP4, LOCAL, "w4a4"), (NVFP4, None, "w4a16"), (FP8, FP8, "fp8"), (ROWS, TOKENS, "fp8_dynamic")],
)
def test_schemes(weights: Any, inputs: Any, scheme: str) -> None:
    declared = LAYOUT.declared(block(weights, inputs))
    assert (declared.everything, declared.faults, declared.language) == (scheme, (), "names")


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"group_size": 32}, "config_groups.group_0.weights.group_size"),
        ({"strategy": "group"}, "config_groups.group_0.weights.strategy"),
        ({"symmetric": False}, "config_groups.group_0.weights.symmetric"),
        ({"num_bits": 8}, "config_groups.group_0.weights"),
        ({"type": "int"}, "config_groups.group_0.weights"),
    ],
)
def test_a_scheme_that_no_kernel_computes_is_named(change: dict[str, Any], where: str) -> None:
    declared = LAYOUT.declared(block({**NVFP4, **change}))
    assert [fault[0] for fault in declared.faults] == [where]
    assert declared.everything is None


def test_several_groups_by_name() -> None:
    groups = {
        "attention": {"targets": ["re:.*self_attn.*"], "weights": FP8, "input_activations": FP8},
        "experts": {"targets": ["Linear"], "weights": NVFP4, "input_activations": LOCAL},
    }
    declared = LAYOUT.declared({**block(NVFP4), "config_groups": groups})
    assert declared.targets == (("re:.*self_attn.*", "fp8"),)
    assert declared.everything == "w4a4"


@pytest.mark.parametrize("cache", [None, {}, {"num_bits": 8, "type": "float"}])
def test_a_kv_cache(cache: Any) -> None:
    assert LAYOUT.declared(block(NVFP4, kv_cache_scheme=cache)).kv_cache is bool(cache)


def test_fp8_tensors() -> None:
    weight = TensorInfo("m.weight", "BF16", (64, 32))
    assert [(t.name, t.shape) for t in LAYOUT.targets(weight, "fp8_dynamic")] == [
        ("m.weight", (64, 32)),
        ("m.weight_scale", (64, 1)),
    ]


NONSENSE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
FIELDS = ["config_groups", "ignore", "quantization_status", "kv_cache_scheme"]
IN_GROUP = ["targets", "weights", "input_activations"]


@given(st.dictionaries(st.sampled_from(FIELDS), NONSENSE), st.dictionaries(st.sampled_from(IN_GROUP), NONSENSE))
def test_nonsense_is_a_fault_and_no_crash(fields: dict[str, Any], group: dict[str, Any]) -> None:
    for made in (fields, {**fields, "config_groups": {"g": {**block(NVFP4)["config_groups"]["group_0"], **group}}}):
        declared = LAYOUT.declared({"quant_method": "compressed-tensors", **made})
        assert declared.faults or declared.everything or declared.targets or made.get("config_groups")
        for where, found, expected, fix in declared.faults:
            assert where
            assert len(found) < 200
            assert expected
            assert fix
