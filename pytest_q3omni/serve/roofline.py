"""The roofline: how fast a device could decode or read a prompt at best, from bytes, operations and its data sheet.

A step takes at least as long as its bytes take through the memory, and as its operations take through the tensor cores;
the longer of the two is the roofline. What is counted is listed in `predict_decode` and `predict_prefill`. What is not:
launching kernels, routing, norms' arithmetic, activations, sampling, the engine's own work between steps. A measured
figure is therefore lower; how much lower is what is of interest.

One assumption can err to the other side: routing is taken to be even, and then the tokens of a batch touch the most
distinct experts. A router with favourites touches fewer, and reads less. For one sequence there is no difference.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pytest_q3omni.errors import InvalidRequest
from pytest_q3omni.serve.decoder import EMBEDDINGS, EXPERTS, LM_HEAD, Arithmetic, Decoder, Weights
from pytest_q3omni.serve.hardware import Hardware, Rate

KV_CACHE = "KV cache"
_RATES: Mapping[Arithmetic, Rate] = {"bf16": "bf16", "w4a16": "bf16", "fp8": "fp8", "w4a4": "fp4"}


@dataclass(frozen=True, slots=True)
class Cost:
    """What one part of a step takes: bytes through the memory, operations by the rate they run at."""

    bytes: float
    flops: Mapping[Rate, float]


@dataclass(frozen=True, slots=True)
class Prediction:
    """The roofline of one step: of one token for each sequence, or of whole prompts.

    tokens_per_second: of all sequences together. bound: what takes longer, the memory or the tensor cores. parts: what
    each part of the model takes, "KV cache" for reading and writing it and for attention over it.
    """

    tokens_per_second: float
    step_seconds: float
    bytes: float
    flops: float
    bound: Literal["memory", "compute"]
    parts: Mapping[str, Cost]

    def percent(self, figure: float) -> float:
        """What per cent of the roofline a measured figure is, in tokens per second of all sequences together.

        Raises:
            InvalidRequest: a figure that is no positive number.
        """
        if not 0 < figure < math.inf:
            raise InvalidRequest(
                f"{figure} tokens per second", expected="a measured figure above 0", fix="measure again"
            )
        return 100 * figure / self.tokens_per_second


def distinct_experts(decoder: Decoder, tokens: float) -> float:
    """How many of a layer's experts a batch of tokens touches under even routing: E (1 - (1 - k/E)^tokens)."""
    untouched: float = (1 - decoder.experts_per_token / decoder.num_experts) ** tokens
    return decoder.num_experts * (1 - untouched)


def predict_decode(decoder: Decoder, device: Hardware, *, at_once: int, context: float) -> Prediction:
    """The roofline of decoding `at_once` sequences that hold `context` tokens each.

    Bytes: attention, router, norms and lm_head whole, the experts that are touched, an embedding row for each sequence,
    the KV cache read for all tokens and written for one. Operations: 2 for each weight that works on a token, and 4 for
    each dimension of each head and token of context.

    context: over a run, the mean: prompt tokens and half of the new ones. A figure that counts a whole run has its
    prefill in it, the roofline has not.

    Raises:
        InvalidRequest: no sequence, or a negative context.
    """
    _check("at_once", at_once, least=1)
    _check("context", context, least=0)
    seen = (context + 1) * at_once
    parts = {name: _cost(weights, weights.bytes, at_once) for name, weights in decoder.parts.items()}
    parts[EXPERTS] = _experts(decoder, at_once)
    parts[EMBEDDINGS] = Cost(decoder.embedding_bytes * at_once, {})
    parts[KV_CACHE] = _attention(decoder, tokens=seen, pairs=seen)
    return _predict(parts, device, at_once)


def predict_prefill(decoder: Decoder, device: Hardware, *, prompt_tokens: int, at_once: int = 1) -> Prediction:
    """The roofline of reading `at_once` prompts of `prompt_tokens` tokens each, in one step.

    As decoding, with all tokens at once: each sees itself and those before it, lm_head works for the last of each
    prompt only, and the KV cache is written (reading it may hit the device's own cache).

    Raises:
        InvalidRequest: no prompt, or an empty one.
    """
    _check("prompt_tokens", prompt_tokens, least=1)
    _check("at_once", at_once, least=1)
    tokens = prompt_tokens * at_once
    parts = {
        name: _cost(weights, weights.bytes, at_once if name == LM_HEAD else tokens)
        for name, weights in decoder.parts.items()
    }
    parts[EXPERTS] = _experts(decoder, tokens)
    parts[EMBEDDINGS] = Cost(decoder.embedding_bytes * min(tokens, decoder.vocabulary), {})
    parts[KV_CACHE] = _attention(decoder, tokens=tokens, pairs=tokens * (prompt_tokens + 1) / 2)
    return _predict(parts, device, tokens)


def _cost(weights: Weights, size: float, tokens: float) -> Cost:
    """What a part takes whose every element works on `tokens` tokens."""
    flops: dict[Rate, float] = defaultdict(float)
    for arithmetic, elements in weights.elements.items():
        flops[_RATES[arithmetic]] += 2 * elements * tokens
    return Cost(size, dict(flops))


def _experts(decoder: Decoder, tokens: float) -> Cost:
    touched = distinct_experts(decoder, tokens) / decoder.num_experts
    active = decoder.experts_per_token / decoder.num_experts
    return _cost(decoder.experts, decoder.experts.bytes * touched, tokens * active)


def _attention(decoder: Decoder, *, tokens: float, pairs: float) -> Cost:
    """Keys and values of `tokens` tokens; `pairs` of a token and one that it sees, each a product with its key and with
    its value, of 2 operations for each dimension of each head."""
    flops = 4 * decoder.layers * decoder.heads * decoder.head_dim * pairs
    rate: Rate = "fp8" if decoder.kv_bytes == 1 else "bf16"
    return Cost(decoder.kv_bytes_per_token * tokens, {rate: flops})


def _predict(parts: Mapping[str, Cost], device: Hardware, tokens: float) -> Prediction:
    size = sum(cost.bytes for cost in parts.values())
    through_memory = size / device.bandwidth
    computing = sum(amount / device.peak(rate) for cost in parts.values() for rate, amount in cost.flops.items())
    step = max(through_memory, computing)
    return Prediction(
        tokens_per_second=tokens / step,
        step_seconds=step,
        bytes=size,
        flops=sum(sum(cost.flops.values()) for cost in parts.values()),
        bound="memory" if through_memory >= computing else "compute",
        parts=parts,
    )


def _check(name: str, value: float, *, least: int) -> None:
    if not least <= value < math.inf:
        raise InvalidRequest(
            f"{name} is {value}", expected=f"a number of at least {least}", fix="pass what was measured"
        )
