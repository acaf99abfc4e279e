"""Thinker: sees text, images and audio, writes text. 90 % of the full model's parameters, most of them experts."""

from __future__ import annotations

from pytest_q3omni.omni.config import Section
from pytest_q3omni.omni.stages._protocol import Part, Shapes, Stage, linear, moe_layers, norm


def _tensors(config: Section) -> Shapes:
    thinker = config.section("thinker_config")
    text = thinker.section("text_config")
    yield from linear("thinker.model.embed_tokens", text.number("vocab_size"), text.number("hidden_size"))
    yield from moe_layers("thinker.model.layers", text, shared_expert=False)
    yield from norm("thinker.model.norm", text.number("hidden_size"))
    if not (text.flag("tie_word_embeddings") or thinker.flag("tie_word_embeddings")):
        yield from linear("thinker.lm_head", text.number("vocab_size"), text.number("hidden_size"))
    yield from audio_tower("thinker.audio_tower", thinker.section("audio_config"))
    yield from visual("thinker.visual", thinker.section("vision_config"))


def audio_tower(name: str, config: Section) -> Shapes:
    """The audio encoder and the projections after it, under `name`."""
    width, inner = config.number("d_model"), config.number("encoder_ffn_dim")
    for layer in range(config.number("encoder_layers")):
        base = f"{name}.layers.{layer}"
        for projection in ("k_proj", "v_proj", "q_proj", "out_proj"):
            yield from linear(f"{base}.self_attn.{projection}", width, width, bias=True)
        yield from norm(f"{base}.self_attn_layer_norm", width, bias=True)
        yield from linear(f"{base}.fc1", inner, width, bias=True)
        yield from linear(f"{base}.fc2", width, inner, bias=True)
        yield from norm(f"{base}.final_layer_norm", width, bias=True)
    yield from norm(f"{name}.ln_post", width, bias=True)
    channels, mel = config.number("downsample_hidden_size"), config.number("num_mel_bins")
    for number in (1, 2, 3):  # each halves the mel axis, rounding up
        yield f"{name}.conv2d{number}.weight", (channels, 1 if number == 1 else channels, 3, 3)
        yield f"{name}.conv2d{number}.bias", (channels,)
        mel = (mel + 1) // 2
    yield from linear(f"{name}.conv_out", width, channels * mel)
    yield from linear(f"{name}.proj1", width, width, bias=True)
    yield from linear(f"{name}.proj2", config.number("output_dim"), width, bias=True)


def visual(name: str, config: Section) -> Shapes:
    """The vision encoder and its mergers, under `name`."""
    width, inner = config.number("hidden_size"), config.number("intermediate_size")
    patch, channels = config.number("patch_size"), config.number("in_channels")
    kernel = (channels, config.number("temporal_patch_size"), patch, patch)
    yield f"{name}.patch_embed.proj.weight", (width, *kernel)
    yield f"{name}.patch_embed.proj.bias", (width,)
    yield f"{name}.pos_embed.weight", (config.number("num_position_embeddings"), width)
    for layer in range(config.number("depth")):
        base = f"{name}.blocks.{layer}"
        yield from norm(f"{base}.norm1", width, bias=True)
        yield from norm(f"{base}.norm2", width, bias=True)
        yield from linear(f"{base}.attn.qkv", 3 * width, width, bias=True)
        yield from linear(f"{base}.attn.proj", width, width, bias=True)
        yield from linear(f"{base}.mlp.linear_fc1", inner, width, bias=True)
        yield from linear(f"{base}.mlp.linear_fc2", width, inner, bias=True)
    merged = width * config.number("spatial_merge_size") ** 2
    mergers = [f"merger_list.{number}" for number in range(len(config.numbers("deepstack_visual_indexes")))]
    for merger in (*mergers, "merger"):
        # The deepstack mergers normalise after the patches are joined, the last one before.
        yield from norm(f"{name}.{merger}.ln_q", width if merger == "merger" else merged, bias=True)
        yield from linear(f"{name}.{merger}.mlp.0", merged, merged, bias=True)
        yield from linear(f"{name}.{merger}.mlp.2", config.number("out_hidden_size"), merged, bias=True)


AUDIO_TOWER = Part("audio tower", r"audio_tower\..+", "vLLM gives the audio tower no quantization config")
VISUAL = Part("visual", r"visual\..+", "kernels refuse its 4304 wide MLP, and it is 1.5 % of the model")

STAGE = Stage(
    name="thinker",
    prefix="thinker.",
    run="model.thinker(**inputs): the whole model has no forward",
    parts=(
        Part("experts", r"model\.layers\.\d+\.mlp\.experts\.\d+\.(gate|up|down)_proj\.weight"),
        Part("attention", r"model\.layers\.\d+\.self_attn\.[qkvo]_proj\.weight"),
        Part(
            "router",
            r"model\.layers\.\d+\.mlp\.gate\.weight",
            "engines build the router unquantized, and it decides which expert runs",
        ),
        Part(
            "dense MLP",
            r"model\.layers\.\d+\.mlp\.(gate|up|down)_proj\.weight",
            "no released Qwen3-Omni has one, so no recipe covers it",
        ),
        Part("lm_head", r"lm_head\.weight", "vLLM 0.32 and 0.33 build it without its prefix and cannot load it packed"),
        Part("embeddings", r"model\.embed_tokens\.weight", "a table look-up gains nothing from a packed matrix"),
        AUDIO_TOWER,
        VISUAL,
        Part("norms and biases", r".+", "vectors"),
    ),
    tensors=_tensors,
    present=lambda config: "thinker_config" in config,
)
