"""How the serving benchmarks measure, and what they say in `extra_info`: figures, spread, kernels, roofline."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from pytest_q3omni.assertions import assert_memory_ratio, assert_speedup
from pytest_q3omni.errors import Q3OmniError
from pytest_q3omni.plugin.fixtures import STORE
from pytest_q3omni.plugin.options import EACH, SETTINGS
from pytest_q3omni.plugin.serving import engines_of
from pytest_q3omni.plugin.store import Half, Unavailable
from pytest_q3omni.serve import throughput
from pytest_q3omni.serve.throughput import Point, Reading

if TYPE_CHECKING:
    from pytest_q3omni.engines.serving import Loaded, ServingEngine

GARBAGE_TOP1 = 0.7
"""Least share of the original's own answer that the checkpoint finds most likely, too, token by token. Published NVFP4
checkpoints of this size reach 0.92 to 0.95; one that answers garbage, next to nothing. A judgement, between the two.
(Four layers of random weights on an H200: 0.59, and 0.94 of the answers of the packed weights' own BF16 twin.)"""

_RANDOM = "random weights: speed and memory are real, answers mean nothing and are not compared"
_Result = TypeVar("_Result")


class Serving:
    """The session's engines, as one item uses them."""

    def __init__(self, request: pytest.FixtureRequest, half: Half, kind: str) -> None:
        self._request, self._half, self.kind = request, half, kind
        self._engines = engines_of(request.config, request.config.stash[STORE])
        self.served, self.engine = self._or_skip(lambda: self._engines.serve(half, request.node))

    def _or_skip(self, work: Callable[[], _Result]) -> _Result:
        try:
            return work()
        except Unavailable as reason:
            skip, text = True, str(reason)
        except Q3OmniError as error:
            skip, text = False, f"{type(error).__name__}: {error}"
        if skip:
            pytest.skip(text)
        pytest.fail(text, pytrace=False)

    def load(self, benchmark: Any) -> None:
        """Seconds to load: one reading, since an engine loads once; bytes and kernels; whether it still answers."""
        loaded = self._or_skip(lambda: benchmark.pedantic(self._loaded, rounds=1, iterations=1))
        said = {"kind": "load", "unit": "s", "figure": loaded.seconds, "figures": [loaded.seconds]}
        said |= {"answers": self._or_skip(self._answers)}
        other = self._row("load", "original")
        if self._half == "quantized" and other is not None:
            said |= {"memory_ratio": other["weight_bytes"] / loaded.weight_bytes}
        self._say(benchmark, loaded, said, "load")
        bound = self._request.config.stash[SETTINGS].min_memory_ratio
        if self._half == "quantized" and bound is not None and self.kind != "tiny":
            theirs = self._baseline("load", "a memory ratio")["weight_bytes"]
            assert_memory_ratio(loaded.weight_bytes, theirs, at_least=bound)

    def _loaded(self) -> Loaded:
        """The engine, loaded. One that does not load is not tried again: it takes minutes to say the same."""
        key = self._half, self.kind
        if key in self._engines.refused:
            pytest.fail(f"{self._engines.refused[key]} (not tried again in this session)", pytrace=False)
        try:
            return self.engine.load()
        except Q3OmniError as error:
            self._engines.refused[key] = f"{type(error).__name__}: {error}"
            raise

    def measure(self, benchmark: Any, point: Point) -> None:
        """Warm-ups, then rounds, of one point."""
        loaded = self._or_skip(self._loaded)
        vocabulary = throughput.vocabulary_of(self.served.config)
        readings: list[Reading] = []

        def round_() -> None:
            readings.append(throughput.run(self.engine, point, vocabulary, seed=len(readings)))

        self._or_skip(
            lambda: benchmark.pedantic(round_, rounds=throughput.ROUNDS, iterations=1, warmup_rounds=throughput.WARMUPS)
        )
        measured = readings[throughput.WARMUPS :] or readings  # --benchmark-disable runs it once, without warm-ups
        found = throughput.spread([throughput.figure(point, reading) for reading in measured])
        said: dict[str, Any] = {
            **asdict(point),
            "unit": point.unit,
            "figure": found.median,
            "spread": [found.low, found.high],
            "figures": list(found.figures),
            **throughput.latencies(measured),
            **self._or_skip(lambda: self._roofline(loaded, point, found.median)),
        }
        self._say(benchmark, loaded, said, str(point))
        self._gate(point, found)

    def _say(self, benchmark: Any, loaded: Loaded, said: dict[str, Any], what: str) -> None:
        """Write it down where the benchmark's JSON, the summary and the other half find it."""
        other = self._row(what, "original") if self._half == "quantized" else None
        row = {
            **said,
            "what": what,
            "marker": self.kind,
            "checkpoint": self._half,
            "numerics": self.served.numerics,
            "weights": loaded.weights,
            "engine": loaded.engine if self.kind == "tiny" else "vLLM",
            "device": loaded.device,
            "capability": loaded.capability,
            "versions": dict(loaded.versions),
            "weight_bytes": loaded.weight_bytes,
            "kv_cache_bytes": loaded.kv_cache_bytes,
            "kernels": asdict(loaded.kernels),
            "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        }
        if other is not None:
            times = said["figure"] / other["figure"]
            faster = 1 / times if said["unit"] in ("s", "ms") else times
            row |= {"baseline": "the original in BF16", "baseline_figure": other["figure"], "ratio": faster}
        benchmark.group = f"serving, {self.kind}: {what}"
        benchmark.extra_info.update(row)
        self._engines.rows.append(row)

    def _row(self, what: str, half: Half) -> dict[str, Any] | None:
        """What this session said of a half."""
        for row in reversed(self._engines.rows):
            found: dict[str, Any] = row
            if (row["what"], row["checkpoint"], row["marker"]) == (what, half, self.kind):
                return found
        return None

    def _gate(self, point: Point, found: throughput.Spread) -> None:
        bounds = self._request.config.stash[SETTINGS].min_speedup
        bound = bounds.get(point.at_once, bounds.get(EACH))
        if point.kind != "decode" or self._half == "original" or bound is None or self.kind == "tiny":
            return
        theirs = self._baseline(str(point), "a speedup")["figures"]
        assert_speedup(found, theirs, at_least=bound, what=str(point))

    def _baseline(self, what: str, gate: str) -> dict[str, Any]:
        """The original's row; a gate without it must not pass."""
        other = self._row(what, "original")
        if other is None:
            pytest.fail(f"{what}: {gate} is asked for, and the original was not measured in this session. Fix: "
                        "run the items of both, without -k or --deselect", pytrace=False)  # fmt: skip
        return other

    def _roofline(self, loaded: Loaded, point: Point, figure: float) -> dict[str, Any]:
        """What the device could do at best, and what to look at first where the figure is far from it."""
        from pytest_q3omni.serve.decoder import decoder_of
        from pytest_q3omni.serve.diagnosis import look_first
        from pytest_q3omni.serve.hardware import hardware_named
        from pytest_q3omni.serve.roofline import predict_decode, predict_prefill

        device = hardware_named(loaded.device)
        if device is None:
            known = f"no roofline: {loaded.device} is not in the table of devices"
            return {"roofline": None, "roofline_missing": known}
        if point.kind == "first token":
            return {}
        decoder = decoder_of(self.served.config, self.served.tensors)
        if point.kind == "prefill":
            found = predict_prefill(decoder, device, prompt_tokens=point.prompt_tokens, at_once=point.at_once)
        else:
            context = point.prompt_tokens + point.new_tokens / 2
            found = predict_decode(decoder, device, at_once=point.at_once, context=context)
        percent = found.percent(figure)
        hints = look_first(percent, found, loaded.kernels, device, numerics=self.served.numerics, at_once=point.at_once)
        said = {"tokens_per_second": found.tokens_per_second, "percent": percent, "bound": found.bound}
        return {"roofline": {**said, "device": device.name, "look_first": list(hints)}}

    def _answers(self) -> Any:
        """Does the checkpoint find the original's own answers likely? The original's are asked for when it loads."""
        if self.served.weights == "random":
            return _RANDOM
        asked = _questions(self.kind == "tiny")
        if self._half == "original":
            given = self.engine.generate([_prompt(question) for question in asked], 16)
            replies = [one.tokens for one in given]
            self._engines.answers[self.kind] = replies, _most_likely(self.engine, asked, replies)
            return [one.text for one in given]
        if self.kind not in self._engines.answers:
            return "the original did not answer in this session: nothing to compare with"
        replies, theirs = self._engines.answers[self.kind]
        ours = _most_likely(self.engine, asked, replies)
        pairs = [(a, b) for mine, its in zip(ours, theirs, strict=True) for a, b in zip(mine, its, strict=True)]
        if not pairs:
            return "the original's answers are empty: nothing to compare with"
        equal = sum(a == b for a, b in pairs) / len(pairs)
        if equal < GARBAGE_TOP1:
            pytest.fail(
                f"{self.served.path}: of {len(pairs)} tokens of the original's answers to {len(asked)} text questions, "
                f"this checkpoint finds {equal:.0%} most likely, too; expected at least {GARBAGE_TOP1:.0%}. It loads "
                "and answers something else. Fix: `q3omni verify` with --source, then `q3omni parity`, name the module",
                pytrace=False,
            )  # fmt: skip
        return {"tokens": len(pairs), "top1": equal, "bound": GARBAGE_TOP1}


def _questions(tiny: bool) -> Sequence[Any]:
    from pytest_q3omni.engines.vllm_questions import bundled_questions, general_questions

    found = bundled_questions() if tiny else general_questions()
    return [question for question in found if question.modality == "text"][:8]


def _prompt(question: Any, reply: Sequence[int] = ()) -> Any:
    from pytest_q3omni.engines.serving import Prompt

    return Prompt(question=question, reply=tuple(reply))


def _most_likely(engine: ServingEngine, asked: Sequence[Any], replies: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """The most likely token at every token of the replies."""
    prompts = [_prompt(question, reply) for question, reply in zip(asked, replies, strict=True)]
    found = engine.prompt_logprobs(prompts)
    return [one.most_likely[len(one.most_likely) - len(reply) :] for one, reply in zip(found, replies, strict=True)]
