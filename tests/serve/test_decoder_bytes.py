"""Bytes and elements of a decoder, counted a second time by hand; checkpoints that do not fit their config."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from decoders import full_config, full_decoder, full_tensors

from pytest_q3omni.errors import Incomplete, Inconsistent
from pytest_q3omni.omni.checkpoint import open_checkpoint, thinker_of
from pytest_q3omni.omni.stages import implied_tensors
from pytest_q3omni.omni.tiny import checkpoint_path
from pytest_q3omni.plan.build import build_plan
from pytest_q3omni.records import TensorInfo
from pytest_q3omni.serve.decoder import Decoder, decoder_of

pytestmark = pytest.mark.tiny

LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD, EXPERTS, EXPERT, VOCABULARY = 48, 2048, 32, 4, 128, 128, 768, 152064
ATTENTION = LAYERS * (2 * HIDDEN * HEADS * HEAD + 2 * HIDDEN * KV_HEADS * HEAD)
EXPERT_WEIGHTS = LAYERS * EXPERTS * 3 * HIDDEN * EXPERT
QKVO, PROJECTIONS = 4 * LAYERS, 3 * LAYERS * EXPERTS
NORMS = LAYERS * (2 * HIDDEN + 2 * HEAD) + HIDDEN


def test_the_full_model_in_bf16() -> None:
    decoder = full_decoder("bf16")
    assert decoder.experts.bytes == 2 * EXPERT_WEIGHTS
    assert decoder.experts.elements == {"bf16": EXPERT_WEIGHTS}
    sizes = {name: weights.bytes for name, weights in decoder.parts.items()}
    assert sizes == {
        "attention": 2 * ATTENTION,
        "router": 2 * LAYERS * HIDDEN * EXPERTS,
        "lm_head": 2 * HIDDEN * VOCABULARY,
        "norms and biases": 2 * NORMS,
    }
    assert decoder.parts["norms and biases"].elements == {}
    assert decoder.embedding_bytes == 2 * HIDDEN
    assert decoder.kv_bytes_per_token == 2 * LAYERS * KV_HEADS * HEAD * 2


@pytest.mark.parametrize("layout", ["modelopt", "compressed-tensors"])
def test_the_full_model_packed(layout: str) -> None:
    """4 bits and a byte for each 16 of them; a scale for the weight and one for its input, 4 bytes each."""
    decoder = full_decoder("nvfp4-default", layout)
    assert decoder.experts.bytes == EXPERT_WEIGHTS * 9 // 16 + PROJECTIONS * 8
    assert decoder.parts["attention"].bytes == ATTENTION * 9 // 16 + QKVO * 8
    assert decoder.experts.elements == {"w4a4": EXPERT_WEIGHTS}
    assert decoder.parts["lm_head"].elements == {"bf16": HIDDEN * VOCABULARY}
    weight_only = full_decoder("nvfp4-mlp-weight-only", layout)
    assert weight_only.experts.bytes == EXPERT_WEIGHTS * 9 // 16 + PROJECTIONS * 4
    assert weight_only.experts.elements == {"w4a16": EXPERT_WEIGHTS}
    assert weight_only.parts["attention"].elements == {"bf16": ATTENTION}


def test_the_tiny_model_counts_what_its_files_hold() -> None:
    checkpoint = open_checkpoint(checkpoint_path())
    decoder = decoder_of(checkpoint.config, checkpoint.tensors)
    held = {
        name: entry.end - entry.begin
        for name, entry in checkpoint.entries.items()
        if name.startswith(("thinker.model.", "thinker.lm_head"))
    }
    table = held["thinker.model.embed_tokens.weight"]
    assert sum(held.values()) == decoder.experts.bytes + sum(w.bytes for w in decoder.parts.values()) + table
    assert decoder.embedding_bytes * decoder.vocabulary == table


def text_model(**changes: Any) -> tuple[dict[str, Any], list[TensorInfo]]:
    """A text model of another size, in FP32, with a dense layer: config and tensors."""
    text = {**full_config()["thinker_config"]["text_config"], "model_type": "qwen3_moe", "num_hidden_layers": 2}
    text |= {"num_experts": 4, "num_experts_per_tok": 2, "mlp_only_layers": [1], **changes}
    return text, [TensorInfo(name, "F32", shape) for name, shape in implied_tensors(text)]


def test_a_text_model_in_fp32_is_loaded_in_bf16() -> None:
    config, tensors = text_model()
    decoder = decoder_of(config, tensors)
    assert decoder.parts["dense MLP"].bytes == 2 * 3 * HIDDEN * config["intermediate_size"]
    assert decoder.experts.bytes == 2 * 4 * 3 * HIDDEN * EXPERT


def test_a_tied_table_is_the_lm_head() -> None:
    config, tensors = text_model(tie_word_embeddings=True)
    assert not any(tensor.name.startswith("lm_head") for tensor in tensors)
    decoder = decoder_of(config, tensors)
    assert decoder.parts["lm_head"].bytes == 2 * HIDDEN * VOCABULARY
    assert decoder.parts["lm_head"].elements == {"bf16": HIDDEN * VOCABULARY}


def test_a_thinker_alone_is_the_same_decoder() -> None:
    whole = open_checkpoint(checkpoint_path())
    alone = thinker_of(whole)
    assert decoder_of(alone.config, alone.tensors) == decoder_of(whole.config, whole.tensors)


@pytest.mark.parametrize(("dtype", "arithmetic", "size"), [("F8_E4M3", "fp8", 1), ("F16", "bf16", 2)])
def test_other_numbers_that_are_known(dtype: str, arithmetic: str, size: int) -> None:
    tensors = [replace(t, dtype=dtype) if "self_attn" in t.name else t for t in full_tensors("bf16")]
    attention = decoder_of(full_config(), tensors).parts["attention"]
    assert attention.elements == {arithmetic: ATTENTION}
    assert attention.bytes == size * ATTENTION


FP8_CACHE = [
    {"quant_method": "modelopt", "quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "ignore": []},
    {"quant_method": "compressed-tensors", "config_groups": {}, "kv_cache_scheme": {"num_bits": 8, "type": "float"}},
]


@pytest.mark.parametrize("block", FP8_CACHE)
def test_a_declared_fp8_cache_is_half_as_large(block: dict[str, Any]) -> None:
    config = {**full_config(), "quantization_config": block}
    assert decoder_of(config, full_tensors("bf16")).kv_bytes == 1
    block = {key: value for key, value in block.items() if not key.startswith("kv_cache")}
    config = {**full_config(), "quantization_config": block}
    assert decoder_of(config, full_tensors("bf16")).kv_bytes == 2


def broken(name: str, **changes: Any) -> list[TensorInfo]:
    found = [replace(t, **changes) if t.name == name else t for t in full_tensors("nvfp4-default")]
    assert found != list(full_tensors("nvfp4-default"))
    return found


EXPERT_NAME = "thinker.model.layers.3.mlp.experts.7.up_proj"


def test_a_missing_expert_is_named() -> None:
    tensors = [t for t in full_tensors("nvfp4-default") if not t.name.startswith(f"{EXPERT_NAME}.")]
    with pytest.raises(Incomplete, match=EXPERT_NAME):
        decoder_of(full_config(), tensors)


def test_a_weight_of_another_shape_is_named() -> None:
    with pytest.raises(Inconsistent, match=r"up_proj.weight: shape \[768, 2048\]; expected \[768, 1024\]"):
        decoder_of(full_config(), broken(f"{EXPERT_NAME}.weight", shape=(768, 2048)))
    with pytest.raises(Inconsistent, match=r"lm_head.weight: shape \[2, 2\]"):
        decoder_of(full_config(), broken("thinker.lm_head.weight", shape=(2, 2)))


@pytest.mark.parametrize("dtype", ["I32", "I8", "F8_E5M2"])
def test_unknown_numbers_are_said(dtype: str) -> None:
    with pytest.raises(Inconsistent, match=f"lm_head: stored as {dtype} weight"):
        decoder_of(full_config(), broken("thinker.lm_head.weight", dtype=dtype))


def test_codes_without_scales_are_no_weight() -> None:
    tensors = [t for t in full_tensors("nvfp4-default") if t.name != f"{EXPERT_NAME}.weight_scale"]
    with pytest.raises(Inconsistent, match=f"{EXPERT_NAME}: stored as .*U8 weight"):
        decoder_of(full_config(), tensors)


def test_more_experts_chosen_than_there_are() -> None:
    config, tensors = text_model(num_experts_per_tok=5)
    with pytest.raises(Inconsistent, match="num_experts_per_tok: 5; expected at most num_experts, 4"):
        decoder_of(config, tensors)


def test_another_model_is_refused() -> None:
    with pytest.raises(Inconsistent, match="model_type is 'llama'"):
        decoder_of({"model_type": "llama"}, ())


def test_a_plan_and_the_checkpoint_it_describes_agree(tmp_path: Path) -> None:
    plan = build_plan(checkpoint_path(), "bf16")
    checkpoint = open_checkpoint(checkpoint_path())
    planned: Decoder = decoder_of(checkpoint.config, (t for one in plan.tensors for t in one.targets))
    assert planned == decoder_of(checkpoint.config, checkpoint.tensors)
