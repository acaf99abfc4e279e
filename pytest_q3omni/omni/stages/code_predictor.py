"""Code predictor: the other codec codes of a frame, one after another, from the talker's first."""

from __future__ import annotations

from pytest_q3omni.omni.config import Section
from pytest_q3omni.omni.stages._protocol import Part, Shapes, Stage, attention, linear, mlp, norm
from pytest_q3omni.omni.stages.talker import has_speech


def _tensors(config: Section) -> Shapes:
    predictor = config.section("talker_config").section("code_predictor_config")
    name, width = "talker.code_predictor", predictor.number("hidden_size")
    for layer in range(predictor.number("num_hidden_layers")):
        base = f"{name}.model.layers.{layer}"
        yield from attention(f"{base}.self_attn", predictor)
        yield from mlp(f"{base}.mlp", width, predictor.number("intermediate_size"))
        yield from norm(f"{base}.input_layernorm", width)
        yield from norm(f"{base}.post_attention_layernorm", width)
    yield from norm(f"{name}.model.norm", width)
    for group in range(predictor.number("num_code_groups") - 1):  # the first code is the talker's
        yield from linear(f"{name}.model.codec_embedding.{group}", predictor.number("vocab_size"), width)
        yield from linear(f"{name}.lm_head.{group}", predictor.number("vocab_size"), width)


STAGE = Stage(
    name="code_predictor",
    prefix="talker.code_predictor.",
    run="runs inside the talker, once per frame",
    parts=(Part("everything", r".+", "0.4 % of the model, and all-stage NVFP4 is known to garble speech"),),
    tensors=_tensors,
    present=has_speech,
)
