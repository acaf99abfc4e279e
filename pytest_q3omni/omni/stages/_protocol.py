"""What a stage file defines: one `STAGE`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pytest_q3omni.omni.config import Section

Shapes = Iterator[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Part:
    """A family of tensors within a stage.

    pattern: regular expression over the whole name without the stage's prefix.
    keep: why it must stay unpacked, "" where a recipe may pack it.
    """

    name: str
    pattern: str
    keep: str = ""

    def matches(self, name: str) -> bool:
        return re.fullmatch(self.pattern, name) is not None


@dataclass(frozen=True)
class Stage:
    """One of the stages.

    prefix: of its tensors; the longest prefix decides, so the code predictor is not the talker.
    heads: what its names go on with after the prefix, where the prefix alone would take in others' tensors.
    foreign: no stage of Qwen3-Omni: only the judge meets it.
    run: how to run it for calibration, in a sentence.
    parts: tried in order; the last one matches everything.
    tensors: names (prefix included) and shapes implied by the config, unfused as in files.
    present: whether a model of this config has the stage.
    """

    name: str
    prefix: str
    run: str
    parts: tuple[Part, ...]
    tensors: Callable[[Section], Shapes]
    present: Callable[[Section], bool]
    heads: tuple[str, ...] = ("",)
    foreign: bool = False

    def part(self, tensor: str) -> Part:
        name = tensor.removeprefix(self.prefix)
        return next((part for part in self.parts if part.matches(name)), self.parts[-1])  # a line break: `.` ends there


def linear(name: str, out: int, inner: int, *, bias: bool = False) -> Shapes:
    """Weight (out, in), and bias (out,) where the layer has one."""
    yield f"{name}.weight", (out, inner)
    if bias:
        yield f"{name}.bias", (out,)


def norm(name: str, width: int, *, bias: bool = False) -> Shapes:
    """A norm's weight (and bias), each (width,)."""
    yield f"{name}.weight", (width,)
    if bias:
        yield f"{name}.bias", (width,)


def attention(name: str, config: Section, *, head_norms: bool = True) -> Shapes:
    """q/k/v/o of grouped-query attention, with Qwen3's norms per head where asked."""
    hidden, heads, kv_heads = (
        config.number(key) for key in ("hidden_size", "num_attention_heads", "num_key_value_heads")
    )
    head = config.number("head_dim") if "head_dim" in config.values else hidden // heads
    bias = config.flag("attention_bias")
    for projection, rows in (("q_proj", heads), ("k_proj", kv_heads), ("v_proj", kv_heads)):
        yield from linear(f"{name}.{projection}", rows * head, hidden, bias=bias)
    yield from linear(f"{name}.o_proj", hidden, heads * head, bias=bias)
    if head_norms:
        yield from norm(f"{name}.q_norm", head)
        yield from norm(f"{name}.k_norm", head)


def mlp(name: str, hidden: int, inner: int) -> Shapes:
    """Gate, up and down of a SwiGLU block."""
    yield from linear(f"{name}.gate_proj", inner, hidden)
    yield from linear(f"{name}.up_proj", inner, hidden)
    yield from linear(f"{name}.down_proj", hidden, inner)


def moe_layers(prefix: str, config: Section, *, shared_expert: bool) -> Shapes:
    """The decoder layers of thinker and talker: attention, router and experts, or a dense MLP where the config says."""
    hidden, experts = config.number("hidden_size"), config.number("num_experts")
    dense, step = set(config.numbers("mlp_only_layers")), config.number("decoder_sparse_step")
    for layer in range(config.number("num_hidden_layers")):
        base = f"{prefix}.{layer}"
        yield from attention(f"{base}.self_attn", config)
        if layer in dense or (layer + 1) % step:
            yield from mlp(f"{base}.mlp", hidden, config.number("intermediate_size"))
        else:
            yield from linear(f"{base}.mlp.gate", experts, hidden)
            for expert in range(experts):
                yield from mlp(f"{base}.mlp.experts.{expert}", hidden, config.number("moe_intermediate_size"))
            if shared_expert:
                yield from mlp(f"{base}.mlp.shared_expert", hidden, config.number("shared_expert_intermediate_size"))
                yield from linear(f"{base}.mlp.shared_expert_gate", 1, hidden)
        yield from norm(f"{base}.input_layernorm", hidden)
        yield from norm(f"{base}.post_attention_layernorm", hidden)
