"""Code2wav: a vocoder from codec codes to the waveform: small transformer, two upsamplers, convolutional decoder."""

from __future__ import annotations

from pytest_q3omni.omni.config import Section
from pytest_q3omni.omni.stages._protocol import Part, Shapes, Stage, attention, linear, mlp, norm
from pytest_q3omni.omni.stages.talker import has_speech


def _tensors(config: Section) -> Shapes:
    vocoder = config.section("code2wav_config")
    width = vocoder.number("hidden_size")
    codes = vocoder.number("codebook_size") * vocoder.number("num_quantizers")
    yield from linear("code2wav.code_embedding", codes, width)
    for layer in range(vocoder.number("num_hidden_layers")):
        base = f"code2wav.pre_transformer.layers.{layer}"
        yield from attention(f"{base}.self_attn", vocoder, head_norms=False)
        yield from mlp(f"{base}.mlp", width, vocoder.number("intermediate_size"))
        yield from norm(f"{base}.input_layernorm", width)
        yield from norm(f"{base}.post_attention_layernorm", width)
        yield f"{base}.self_attn_layer_scale.scale", (width,)
        yield f"{base}.mlp_layer_scale.scale", (width,)
    yield from norm("code2wav.pre_transformer.norm", width)
    for number, factor in enumerate(vocoder.numbers("upsampling_ratios")):
        yield from _upsampler(f"code2wav.upsample.{number}", width, factor)
    yield from _decoder(vocoder, width)


def _convolution(name: str, *shape: int, out: int | None = None) -> Shapes:
    yield f"{name}.weight", shape
    yield f"{name}.bias", (shape[0] if out is None else out,)


def _snake(name: str, width: int) -> Shapes:
    yield f"{name}.alpha", (width,)
    yield f"{name}.beta", (width,)


def _upsampler(name: str, width: int, factor: int) -> Shapes:
    yield from _convolution(f"{name}.0.conv", width, width, factor)
    yield f"{name}.1.gamma", (width,)
    yield from _convolution(f"{name}.1.dwconv.conv", width, 1, 7)
    yield from norm(f"{name}.1.norm", width, bias=True)
    yield from linear(f"{name}.1.pwconv1", 4 * width, width, bias=True)
    yield from linear(f"{name}.1.pwconv2", width, 4 * width, bias=True)


def _decoder(vocoder: Section, width: int) -> Shapes:
    rates, dim = vocoder.numbers("upsample_rates"), vocoder.number("decoder_dim")
    yield from _convolution("code2wav.decoder.0.conv", dim, width, 7)
    for number, rate in enumerate(rates, start=1):
        base, out = f"code2wav.decoder.{number}.block", dim // 2
        yield from _snake(f"{base}.0", dim)
        yield from _convolution(f"{base}.1.conv", dim, out, 2 * rate, out=out)  # transposed: (in, out, kernel)
        for unit in (2, 3, 4):
            yield from _snake(f"{base}.{unit}.act1", out)
            yield from _convolution(f"{base}.{unit}.conv1.conv", out, out, 7)
            yield from _snake(f"{base}.{unit}.act2", out)
            yield from _convolution(f"{base}.{unit}.conv2.conv", out, out, 1)
        dim = out
    yield from _snake(f"code2wav.decoder.{len(rates) + 1}", dim)
    yield from _convolution(f"code2wav.decoder.{len(rates) + 2}.conv", 1, dim, 7)


STAGE = Stage(
    name="code2wav",
    prefix="code2wav.",
    run="model.code2wav(codes): codes (batch, quantizers, frames) to a waveform",
    parts=(Part("everything", r".+", "a vocoder of convolutions: no engine has a packed kernel for it"),),
    tensors=_tensors,
    present=has_speech,
)
