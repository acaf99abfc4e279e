"""vLLM's names as the checkpoint spells them, by the map that vLLM's model has."""

from types import SimpleNamespace

import pytest

from pytest_q3omni.engines.vllm_inside.build import checkpoint_names, in_checkpoint

pytestmark = pytest.mark.tiny

MAP = {
    "thinker.lm_head.": "language_model.lm_head.",
    "thinker.model.": "language_model.model.",
    "thinker.": "",
    "talker.": None,
    "model.": "language_model.model.",
    "lm_head.": "language_model.lm_head.",
}
"""Qwen3OmniMoeThinkerForConditionalGeneration's, vLLM 0.32."""
MODEL = SimpleNamespace(hf_to_vllm_mapper=SimpleNamespace(orig_to_new_prefix=MAP))


def tensors(*names: str) -> list:
    return [(name, "BF16", (1,), "", 0, 2) for name in names]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("language_model.lm_head", "thinker.lm_head"),
        ("language_model.model.norm", "thinker.model.norm"),
        ("language_model.model.layers.0.mlp.experts.routed_experts", "thinker.model.layers.0.mlp.experts"),
        ("visual.blocks.0.attn.qkv", "thinker.visual.blocks.0.attn.qkv"),
    ],
)
def test_a_whole_model(theirs: str, ours: str) -> None:
    """Whatever is missing in it: the names of what is there do not decide."""
    assert in_checkpoint(theirs, checkpoint_names(MODEL, tensors("thinker.model.norm.weight", "talker.x"))) == ours


def test_a_thinker_alone() -> None:
    prefixes = checkpoint_names(MODEL, tensors("model.norm.weight", "visual.merger.weight"))
    assert in_checkpoint("language_model.lm_head", prefixes) == "lm_head"
    assert in_checkpoint("language_model.model.norm", prefixes) == "model.norm"
    assert in_checkpoint("visual.merger", prefixes) == "visual.merger"


def test_a_model_without_a_map() -> None:
    prefixes = checkpoint_names(SimpleNamespace(), tensors("model.norm.weight"))
    assert in_checkpoint("model.layers.0.self_attn.qkv_proj", prefixes) == "model.layers.0.self_attn.qkv_proj"
