"""Talker: turns the thinker's hidden states and text into the first codec code of every audio frame."""

from __future__ import annotations

from pytest_q3omni.omni.config import Section
from pytest_q3omni.omni.stages._protocol import Part, Shapes, Stage, linear, moe_layers, norm


def has_speech(config: Section) -> bool:
    """False for Thinking and Captioner, which ship the thinker alone."""
    return config.values.get("enable_audio_output", True) is not False and "talker_config" in config


def _tensors(config: Section) -> Shapes:
    talker = config.section("talker_config")
    text = talker.section("text_config")
    width, thinker_width = text.number("hidden_size"), talker.number("thinker_hidden_size")
    yield from linear("talker.model.codec_embedding", text.number("vocab_size"), width)
    yield from moe_layers("talker.model.layers", text, shared_expert=True)
    yield from norm("talker.model.norm", width)
    for projection in ("text_projection", "hidden_projection"):
        inner = text.number("intermediate_size")
        yield from linear(f"talker.{projection}.linear_fc1", inner, thinker_width, bias=True)
        yield from linear(f"talker.{projection}.linear_fc2", width, inner, bias=True)
    yield from linear("talker.codec_head", text.number("vocab_size"), width)


STAGE = Stage(
    name="talker",
    prefix="talker.",
    run="model.generate(..., return_audio=True): its input is built from the thinker's hidden states",
    parts=(
        Part("experts", r"model\.layers\.\d+\.mlp\.experts\.\d+\.(gate|up|down)_proj\.weight"),
        Part("attention", r"model\.layers\.\d+\.self_attn\.[qkvo]_proj\.weight"),
        Part("shared expert", r"model\.layers\.\d+\.mlp\.shared_expert\.(gate|up|down)_proj\.weight"),
        Part(
            "router",
            r"model\.layers\.\d+\.mlp\.(gate|shared_expert_gate)\.weight",
            "engines build the routers unquantized",
        ),
        Part(
            "projections", r"(text|hidden)_projection\..+", "the only way from thinker to speech; 0.05 % of the model"
        ),
        Part("codec head", r"codec_head\.weight", "its logits pick the audio code"),
        Part("embeddings", r"model\.codec_embedding\.weight", "a table look-up gains nothing from a packed matrix"),
        Part("norms and biases", r".+", "vectors"),
    ),
    tensors=_tensors,
    present=has_speech,
)
