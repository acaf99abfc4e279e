"""Does a checkpoint fit into a device's memory, with the KV cache of so many requests? Arithmetic, no device."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

ALLOWANCE = 4 << 30
"""Bytes beside weights and KV cache: CUDA's context, activations of a prefill of 8,192 tokens and of one picture, CUDA
graphs. Stated, not measured."""

UTILISATION = 0.92
"""The share of a device's memory that vLLM takes unless `--gpu-memory-utilization` says otherwise (read: 0.26 to 0.32,
`config/cache.py`)."""


@dataclass(frozen=True)
class Needs:
    """What serving takes. weights: bytes that vLLM loads, which is the thinker; others: the same of other recipes.

    token_bytes: of one token in the KV cache; longest: positions that the model knows, 0 where its config says none.
    """

    name: str
    weights: int
    token_bytes: int
    longest: int
    at_once: int
    context: int
    others: Mapping[str, int] = field(default_factory=dict)

    @property
    def cache_bytes(self) -> int:
        return self.at_once * self.context * self.token_bytes

    @property
    def total(self) -> int:
        return self.weights + self.cache_bytes + ALLOWANCE

    def tokens_in(self, memory: int) -> int:
        """Tokens of all requests together that `memory` bytes leave room for, beside weights and allowance."""
        return max(0, memory - self.weights - ALLOWANCE) // self.token_bytes

    def recipes_in(self, memory: int) -> list[str]:
        """Other recipes whose weights leave room for the same cache."""
        return [name for name, weights in self.others.items() if self.total - self.weights + weights <= memory]

    def largest(self, memory: int) -> str:
        """`1 x 65,536 or 50 x 4,096 tokens`: the longest context of one request, the most requests of this context."""
        tokens = self.tokens_in(memory)
        one = min(tokens, self.longest or tokens)
        many = tokens // self.context
        return f"1 x {one:,}" + (f" or {many:,} x {self.context:,}" if many > 1 else "") + " tokens"


def utilisation(memory: int, total: int) -> float:
    """The largest `--gpu-memory-utilization`, to two places, that asks for no more than `memory` of `total` bytes."""
    return max(0.0, math.floor(100 * memory / total) / 100)
