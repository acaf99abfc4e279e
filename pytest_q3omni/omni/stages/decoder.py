"""Decoder: a text model of Qwen3-MoE's kind, or a thinker that was exported alone, under names without a prefix.

Nothing here packs such a model. The judge reads it, since most NVFP4 checkpoints of this family are text models.
"""

from __future__ import annotations

from pytest_q3omni.omni.config import DECODERS, THINKER_TYPE, Section
from pytest_q3omni.omni.stages._protocol import Part, Shapes, Stage, linear, moe_layers, norm


def _tensors(config: Section) -> Shapes:
    text = config.section("text_config") if config.values.get("model_type") == THINKER_TYPE else config
    vocabulary, width = text.number("vocab_size"), text.number("hidden_size")
    yield from linear("model.embed_tokens", vocabulary, width)
    yield from moe_layers("model.layers", text, shared_expert=False)
    yield from norm("model.norm", width)
    if not (text.flag("tie_word_embeddings") or config.flag("tie_word_embeddings")):
        yield from linear("lm_head", vocabulary, width)


STAGE = Stage(
    name="decoder",
    prefix="",
    heads=("model.", "lm_head."),
    foreign=True,
    run="model(**inputs)",
    parts=(
        Part("experts", r"model\.layers\.\d+\.mlp\.experts\.\d+\.(gate|up|down)_proj\.weight"),
        Part("attention", r"model\.layers\.\d+\.self_attn\.[qkvo]_proj\.weight"),
        Part("router", r"model\.layers\.\d+\.mlp\.gate\.weight", "it decides which expert runs, and is no larger"),
        Part("dense MLP", r"model\.layers\.\d+\.mlp\.(gate|up|down)_proj\.weight"),
        Part("lm_head", r"lm_head\.weight"),
        Part("embeddings", r"model\.embed_tokens\.weight", "a table look-up gains nothing from a packed matrix"),
        Part("norms and biases", r".+", "vectors"),
    ),
    tensors=_tensors,
    present=lambda config: config.values.get("model_type") in DECODERS,
)
