"""The table of traps: what trips each row, and that what we make trips none."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import pytest_q3omni
from pytest_q3omni.engines.compatibility import TRAPS, Layers, Trap, planned, tripped
from pytest_q3omni.layouts import layout_names
from pytest_q3omni.omni.tiny import checkpoint_path
from pytest_q3omni.plan.build import build_plan
from pytest_q3omni.plan.recipes import recipe_names
from pytest_q3omni.plan.traps import known_traps

pytestmark = pytest.mark.tiny

FULL_SIZE = Path(pytest_q3omni.__file__).parent / "omni" / "qwen3_omni_30b_config.json"
LM_HEAD, Q, EXPERT = (
    "thinker.lm_head",
    "thinker.model.layers.0.self_attn.q_proj",
    "thinker.model.layers.0.mlp.experts.3",
)
PLAIN = {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["thinker.lm_head"]}
LISTED = {
    "quant_method": "modelopt",
    "quant_algo": "MIXED_PRECISION",
    "quantized_layers": {Q: {"quant_algo": "NVFP4", "group_size": 16}},
}
NUMBERS = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16, "symmetric": True}
COMPRESSED: dict[str, Any] = {
    "quant_method": "compressed-tensors",
    "format": "nvfp4-pack-quantized",
    "config_groups": {"group_0": {"targets": ["Linear"], "weights": NUMBERS, "input_activations": None}},
    "ignore": ["re:.*visual.*"],
}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]] = {
    "lm-head-under-plain-nvfp4": (PLAIN, {LM_HEAD: (None, (512, 128)), Q: ("w4a4", (128, 128))}, ()),
    "lm-head-quantized": (LISTED, {LM_HEAD: ("w4a4", (512, 128))}, ()),
    "patterns-with-prefix": ({**COMPRESSED, "ignore": [r"re:^thinker\.visual.*"]}, {Q: ("w4a4", (128, 128))}, ()),
    "audio-tower": (LISTED, {"thinker.audio_tower.layers.0.fc1": ("w4a4", (128, 64))}, ()),
    "group-size": ({**PLAIN, "group_size": 32}, {}, ()),
    "algorithm": ({**PLAIN, "quant_algo": "nvfp4_awq"}, {}, ()),
    "channel-scales": (LISTED, {}, (f"{Q}.pre_quant_scale",)),
    "packed-embeddings": (COMPRESSED, {}, ("thinker.model.embed_tokens.weight_scale",)),
    "cache-without-scales": ({**LISTED, "kv_cache_scheme": {"num_bits": 8}}, {}, ()),
    "marlin-rows": (LISTED, {"thinker.visual.blocks.0.mlp.linear_fc1": ("w4a16", (4304, 1152))}, ()),
    "marlin-experts": (LISTED, {f"{EXPERT}.gate_proj": ("w4a4", (768, 2032))}, ()),
}


def names(layers: Layers, version: str = "") -> list[str]:
    return [trap.name for trap, _, _ in tripped(layers, version=version)]


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.name)
def test_every_row_is_tripped_and_says_what_to_do(trap: Trap) -> None:
    block, stored, tensors = CASES[trap.name]
    found = [row for row in tripped(Layers(block, stored, tensors)) if row[0] is trap]
    assert found, "its case trips it"
    assert all(where and what for _, where, what in found)
    assert trap.then
    assert trap.fix
    assert trap.source.startswith(("run: ", "read: ", "reported: "))


def test_names_are_unique() -> None:
    assert len({trap.name for trap in TRAPS}) == len(TRAPS) == len(CASES)


@pytest.mark.parametrize("layout", layout_names())
@pytest.mark.parametrize("recipe", recipe_names())
@pytest.mark.parametrize("source", [checkpoint_path(), FULL_SIZE], ids=["tiny", "full size"])
def test_what_we_plan_trips_none(source: Path, recipe: str, layout: str) -> None:
    plan = build_plan(source, recipe, layout_name=layout)
    assert names(planned(plan)) == []
    assert known_traps(plan) == ""


def test_a_plan_that_would_trip_says_so() -> None:
    plan = build_plan(checkpoint_path(), "nvfp4-default")
    tower = next(t for t in plan.tensors if t.source.name == "thinker.audio_tower.layers.0.fc1.weight")
    other = replace(plan, tensors=(*plan.tensors, replace(tower, action="nvfp4")))
    said = known_traps(other)
    assert "thinker.audio_tower.layers.0.fc1.weight" in said
    assert "Fix: " in said


def test_a_packed_lm_head_under_plain_nvfp4_is_no_trap() -> None:
    assert names(Layers(PLAIN, {LM_HEAD: ("w4a4", (512, 128))})) == []


def test_the_talker_is_nobodys_business() -> None:
    """vLLM skips it."""
    assert names(Layers(LISTED, {"talker.model.layers.0.self_attn.q_proj": ("w4a4", (100, 96))})) == []


@pytest.mark.parametrize(
    ("version", "known"), [("0.23.0", False), ("0.24.0", True), ("0.33.1+cpu", True), ("0.34", False)]
)
def test_versions_bound_a_row(version: str, known: bool) -> None:
    block, stored, tensors = CASES["lm-head-under-plain-nvfp4"]
    assert ("lm-head-under-plain-nvfp4" in names(Layers(block, stored, tensors), version)) is known


def test_versions_are_said() -> None:
    rows = {trap.name: trap for trap in TRAPS}
    assert rows["lm-head-under-plain-nvfp4"].versions == "vLLM 0.24 to 0.33"
    assert rows["marlin-rows"].versions == "vLLM up to 0.23"
    assert rows["audio-tower"].versions == "vLLM"


def test_a_block_of_nobody_trips_nothing_by_its_words() -> None:
    assert names(Layers({"quant_method": "awq"}, {Q: (None, (128, 128))})) == []
    assert names(Layers({}, {})) == []
