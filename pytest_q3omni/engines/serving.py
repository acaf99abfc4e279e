"""What a serving engine does: load a checkpoint, generate for many at once, say how likely prompts are, tell its memory
and its kernels, close. Plain data goes in and comes out; the model lives in a process of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from pytest_q3omni.engines.vllm_questions import Question

Weights = Literal["real", "random"]
"""Whose weights run: the checkpoint's own, or random ones of its shapes. Of random ones speed and memory are real, and
answers mean nothing."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is given: token ids as they are, or a question that the checkpoint's own chat template renders.

    reply: token ids after the question, as if the model had answered so; of them `prompt_logprobs` speaks, too.
    """

    tokens: tuple[int, ...] = ()
    question: Question | None = None
    reply: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Generated:
    """One continuation. times: seconds from handing over the batch until each token was there."""

    tokens: tuple[int, ...]
    times: tuple[float, ...]
    text: str = ""


@dataclass(frozen=True, slots=True)
class PromptLogprobs:
    """How likely a prompt is, from its second token on: the token, its log-probability (nats) after those before it,
    and the most likely token there."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    most_likely: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Kernels:
    """What computes: kernel or method -> number of layers, for linear layers, experts and attention.

    cuda_graphs: the engine's own word for how it captures them; "none" in eager mode. expert_tuning: the file with the
    tuned settings of the experts' kernel for this device and these shapes; "default" where the engine has none and the
    kernel takes one; "" where the kernel takes none.
    """

    linear: Mapping[str, int] = field(default_factory=dict)
    experts: Mapping[str, int] = field(default_factory=dict)
    attention: Mapping[str, int] = field(default_factory=dict)
    cuda_graphs: str = "none"
    expert_tuning: str = ""

    @property
    def eager(self) -> bool:
        return self.cuda_graphs.lower() == "none"


@dataclass(frozen=True, slots=True)
class Loaded:
    """An engine that is ready. capability: (major, minor) of a CUDA device, None on a CPU.

    versions: engine, torch, and what else decides about speed. seconds: from the start of its process until it can
    answer. weight_bytes: memory that the weights take, kernels' own copies included; kv_cache_tokens: tokens that all
    requests together may hold.
    """

    engine: str
    versions: Mapping[str, str]
    device: str
    capability: tuple[int, int] | None
    weights: Weights
    seconds: float
    weight_bytes: int
    kv_cache_bytes: int
    kv_cache_tokens: int
    kernels: Kernels


@dataclass(frozen=True, slots=True)
class EngineMemory:
    """Bytes on the engine's device: allocated by it now, at most so far, and taken on the whole device by everybody."""

    allocated: int
    peak: int
    device_used: int


class ServingEngine(Protocol):
    """One checkpoint in one engine. Nothing runs before `load`.

    Every method raises EngineError where the engine dies, takes too long or answers nonsense, with its last lines.
    """

    @property
    def path(self) -> Path:
        """The checkpoint's directory."""

    def load(self) -> Loaded:
        """Start the process and load the checkpoint; once, further calls give the same answer."""

    def generate(
        self, prompts: Sequence[Prompt], max_new_tokens: int, *, past_the_end: bool = False
    ) -> list[Generated]:
        """Greedy continuations of all prompts at once; `past_the_end`: exactly `max_new_tokens` each.

        With random weights they are sampled: greedy ones would fall into the same cycle, and so to the same experts.
        """

    def prompt_logprobs(self, prompts: Sequence[Prompt]) -> list[PromptLogprobs]:
        """How likely each prompt is, token by token."""

    def memory(self) -> EngineMemory:
        """Bytes now, of the loaded engine."""

    def close(self) -> None:
        """End the process and give all memory back; `load` starts another one."""
