"""A serving engine whose model lives in a process of its own: plain data goes over, and what comes back is checked."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from pytest_q3omni.engines.engine_process import EngineProcess
from pytest_q3omni.engines.serving import EngineMemory, Generated, Kernels, Loaded, Prompt, PromptLogprobs, Weights
from pytest_q3omni.engines.vllm_questions import ask
from pytest_q3omni.errors import EngineError, InvalidRequest

LOAD_SECONDS = 3600.0
"""Longest load: 66 GB from a slow disk, and compilation. A dummy load of the full size takes about 100 s on an H100."""
ANSWER_SECONDS = 1800.0

_Value = TypeVar("_Value")


class ServingProcess:
    """A `ServingEngine`. name: for messages. weights: whose run.

    start: begins the process in a new folder, which goes away with it. request: what `load` is told, given that folder.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        weights: Weights,
        start: Callable[[Path], EngineProcess],
        request: Callable[[Path], Mapping[str, Any]],
    ) -> None:
        self.name, self.path, self.weights = name, path, weights
        self._start, self._request = start, request
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: EngineProcess | None = None
        self._loaded: Loaded | None = None

    def load(self) -> Loaded:
        """Start the process and load the checkpoint; once, further calls give the same answer."""
        if self._loaded is not None and self._process is not None and not self._process.closed:
            return self._loaded
        self.close()
        self._folder = tempfile.TemporaryDirectory(prefix="q3omni-serving-")
        begin = time.perf_counter()
        try:
            self._process = self._start(Path(self._folder.name))
            request = {"do": "load", **self._request(Path(self._folder.name))}
            content = self._process.ask(request, LOAD_SECONDS)
            seconds = time.perf_counter() - begin
            self._loaded = self._checked(lambda: _loaded(self.name, content, self.weights, seconds))
        except BaseException:
            self.close()
            raise
        return self._loaded

    def generate(
        self, prompts: Sequence[Prompt], max_new_tokens: int, *, past_the_end: bool = False
    ) -> list[Generated]:
        """Continuations of all prompts at once; `past_the_end`: exactly `max_new_tokens` each."""
        request = {"do": "generate", "max_new_tokens": max_new_tokens, "past_the_end": past_the_end}
        content = self._asked(prompts, request)
        made = self._checked(lambda: [_generated(one) for one in content])
        self._count("continuations", len(made), len(prompts))
        for one in made if past_the_end else ():
            self._count("tokens", len(one.tokens), max_new_tokens)
        return made

    def prompt_logprobs(self, prompts: Sequence[Prompt]) -> list[PromptLogprobs]:
        """How likely each prompt is, token by token."""
        content = self._asked(prompts, {"do": "prompt_logprobs"})
        made = self._checked(lambda: [_prompt_logprobs(one) for one in content])
        self._count("prompts", len(made), len(prompts))
        return made

    def memory(self) -> EngineMemory:
        """Bytes now, of the loaded engine."""
        content = self._open()[0].ask({"do": "memory"}, ANSWER_SECONDS)
        return self._checked(lambda: EngineMemory(**{key: _whole(value) for key, value in content.items()}))

    def close(self) -> None:
        """End the process and give all memory back; `load` starts another one."""
        if self._process is not None:
            self._process.close()
        if self._folder is not None:
            self._folder.cleanup()
        self._process = self._folder = self._loaded = None

    def _asked(self, prompts: Sequence[Prompt], request: Mapping[str, Any]) -> Any:
        if not prompts:
            raise InvalidRequest("no prompt", where=self.name, expected="at least one", fix="give some")
        process, folder = self._open()
        with tempfile.TemporaryDirectory(dir=folder) as media:
            asked = [_request(prompt, Path(media), number) for number, prompt in enumerate(prompts)]
            return process.ask({**request, "prompts": asked}, ANSWER_SECONDS)

    def _open(self) -> tuple[EngineProcess, Path]:
        if self._process is None or self._folder is None:
            raise InvalidRequest(f"{self.name} is not loaded", where=str(self.path), fix="call load() first")
        if self._process.closed:
            raise EngineError(f"{self.name} has ended", where=str(self.path), fix="load() starts it again")
        return self._process, Path(self._folder.name)

    def _checked(self, read: Callable[[], _Value]) -> _Value:
        try:
            return read()
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise EngineError(
                f"answered something else than was asked ({type(error).__name__}: {error})", where=self.name,
                expected="an answer", fix="check that the interpreter is the one of the engine's environment",
            ) from error  # fmt: skip

    def _count(self, what: str, found: int, wanted: int) -> None:
        if found != wanted:
            fix = "see the engine's own log: it cut some short"
            raise EngineError(f"{found} {what}", where=self.name, expected=f"{wanted} {what}", fix=fix)


def _request(prompt: Prompt, media: Path, number: int) -> dict[str, Any]:
    if prompt.question is None:
        return {"tokens": list(prompt.tokens), "question": None, "reply": list(prompt.reply)}
    folder = media / str(number)
    folder.mkdir()
    return {"tokens": [], "question": ask([prompt.question], folder)[0], "reply": list(prompt.reply)}


def _loaded(engine: str, content: Mapping[str, Any], weights: Weights, seconds: float) -> Loaded:
    capability = content["capability"]
    kinds = ("linear", "experts", "attention")
    counts = {kind: {str(name): _whole(count) for name, count in content[kind].items()} for kind in kinds}
    graphs, tuning = str(content["cuda_graphs"]), str(content["expert_tuning"])
    return Loaded(
        engine=engine,
        versions={str(key): str(value) for key, value in content["versions"].items()},
        device=str(content["device"]),
        capability=None if capability is None else (_whole(capability[0]), _whole(capability[1])),
        weights=weights,
        seconds=seconds,
        weight_bytes=_whole(content["weight_bytes"]),
        kv_cache_bytes=_whole(content["kv_cache_bytes"]),
        kv_cache_tokens=_whole(content["kv_cache_tokens"]),
        kernels=Kernels(**counts, cuda_graphs=graphs, expert_tuning=tuning),
    )


def _generated(content: Mapping[str, Any]) -> Generated:
    tokens, times = tuple(map(_whole, content["tokens"])), tuple(map(_number, content["times"]))
    if len(tokens) != len(times):
        raise ValueError(f"{len(tokens)} tokens at {len(times)} times")
    if not all(0 <= time < math.inf for time in times) or any(after < before for before, after in pairwise(times)):
        raise ValueError("times that are none, or do not rise")
    return Generated(tokens, times, str(content["text"]))


def _prompt_logprobs(content: Mapping[str, Any]) -> PromptLogprobs:
    found = PromptLogprobs(
        tokens=tuple(map(_whole, content["tokens"])),
        logprobs=tuple(map(_number, content["logprobs"])),  # a broken checkpoint's are NaN: a finding, no nonsense
        most_likely=tuple(map(_whole, content["most_likely"])),
    )
    if not len(found.tokens) == len(found.logprobs) == len(found.most_likely):
        raise ValueError(f"{len(found.tokens)} tokens with {len(found.logprobs)} log-probabilities")
    return found


def _whole(value: Any) -> int:
    """A number of something: JSON has no other way to write it, and `int` would take "7", True and 7.9, too."""
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r:.40} is no number of anything")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise ValueError(f"{value!r:.40} is no number")
    return float(value)
