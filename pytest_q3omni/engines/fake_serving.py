"""A serving engine that answers what it is told, when it is told: for tests of code that measures or compares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path

from pytest_q3omni.engines.serving import EngineMemory, Generated, Kernels, Loaded, Prompt, PromptLogprobs, Weights
from pytest_q3omni.errors import InvalidRequest

Logprobs = Callable[[Prompt], PromptLogprobs]


class FakeServing:
    """A `ServingEngine` by script.

    first, between: seconds to the first token and from one to the next, each times the requests that run together, of
    the n-th call of `generate` where a list is given (the last goes on). logprobs: what it finds of a prompt. log: when
    it is loaded and closed; several fakes may share one.
    """

    def __init__(
        self,
        path: str | PathLike[str] = "somewhere",
        *,
        first: float | Sequence[float] = 0.05,
        between: float | Sequence[float] = 0.01,
        logprobs: Logprobs | None = None,
        weights: Weights = "real",
        weight_bytes: int = 1 << 30,
        kernels: Kernels | None = None,
        device: str = "a fake device",
        capability: tuple[int, int] | None = None,
        log: list[str] | None = None,
    ) -> None:
        self.path, self.weights = Path(path), weights
        self.log = [] if log is None else log
        self._first, self._between, self._logprobs = first, between, logprobs
        self._loaded = Loaded(
            engine="fake", versions={"fake": "1"}, device=device, capability=capability, weights=weights, seconds=2.0,
            weight_bytes=weight_bytes, kv_cache_bytes=1 << 20, kv_cache_tokens=1 << 14, kernels=kernels or Kernels(),
        )  # fmt: skip
        self._open, self._calls = False, 0

    def load(self) -> Loaded:
        """Open."""
        if not self._open:
            self.log.append(f"load {self.path}")
        self._open = True
        return self._loaded

    def generate(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int,
        *,
        past_the_end: bool = False,  # noqa: ARG002  # no end
    ) -> list[Generated]:
        """Tokens 0, 1, 2, ... for each prompt, at the scripted times."""
        self._need_open()
        first, between = (_nth(times, self._calls) * len(prompts) for times in (self._first, self._between))
        self._calls += 1
        times = tuple(first + between * number for number in range(max_new_tokens))
        return [Generated(tuple(range(max_new_tokens)), times, "fake") for _ in prompts]

    def prompt_logprobs(self, prompts: Sequence[Prompt]) -> list[PromptLogprobs]:
        """As scripted.

        Raises:
            InvalidRequest: nothing is scripted.
        """
        self._need_open()
        if self._logprobs is None:
            raise InvalidRequest("no log-probabilities are scripted", where=str(self.path), fix="pass logprobs=")
        return [self._logprobs(prompt) for prompt in prompts]

    def memory(self) -> EngineMemory:
        """The weights and the KV cache."""
        self._need_open()
        held = self._loaded.weight_bytes + self._loaded.kv_cache_bytes
        return EngineMemory(held, held, held)

    def close(self) -> None:
        """Close."""
        if self._open:
            self.log.append(f"close {self.path}")
        self._open = False

    def _need_open(self) -> None:
        if not self._open:
            raise InvalidRequest("the engine is not loaded", where=str(self.path), fix="call load() first")


def _nth(times: float | Sequence[float], number: int) -> float:
    if isinstance(times, Sequence):
        return times[min(number, len(times) - 1)]
    return times
