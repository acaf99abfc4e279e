"""What is measured of an engine that serves, and how rounds become figures: medians and their spread.

A point is measured several times; a round gives one reading, from the times at which the engine's tokens were there.
The clock is read in the engine's own process, so that asking costs nothing.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Literal

from pytest_q3omni.engines.serving import Generated, Prompt, ServingEngine

Kind = Literal["first token", "decode", "prefill"]
PROMPT_TOKENS, NEW_TOKENS = 128, 256
AT_ONCE = (1, 8, 32, 64)
PREFILLS = (512, 8192)
ROUNDS, WARMUPS = 5, 2
"""First generations compile: two warm-ups for each point, or the figures mean nothing (facts: one of ours did not)."""


@dataclass(frozen=True, slots=True)
class Point:
    """One thing to measure: `at_once` requests of `prompt_tokens` tokens each, `new_tokens` tokens for each."""

    kind: Kind
    at_once: int
    prompt_tokens: int
    new_tokens: int

    @property
    def tokens(self) -> int:
        """Tokens that a rate counts: those of the prompts for prefill, else the new ones."""
        return self.at_once * (self.prompt_tokens if self.kind == "prefill" else self.new_tokens)

    @property
    def unit(self) -> str:
        return "ms" if self.kind == "first token" else "tokens/s"

    def __str__(self) -> str:
        if self.kind == "decode":
            return f"decode at {self.at_once}"
        return f"{self.kind} of {self.prompt_tokens} tokens"


FULL_POINTS = (
    Point("first token", 1, PROMPT_TOKENS, 1),
    *(Point("decode", number, PROMPT_TOKENS, NEW_TOKENS) for number in AT_ONCE),
    *(Point("prefill", 1, length, 1) for length in PREFILLS),
)
TINY_POINTS = (Point("first token", 1, 16, 1), Point("decode", 1, 16, 8), Point("decode", 4, 16, 8))
"""The same way on the built-in tiny model, whose figures say nothing of a full-size one."""
MOST_TOKENS = max(PREFILLS) + NEW_TOKENS
"""Tokens of the longest request: what an engine is told as its largest length."""


def prompts(point: Point, vocabulary: int, seed: int) -> list[Prompt]:
    """Random token ids below `vocabulary`, the same for the same seed: routers then spread tokens over the experts."""
    draw = random.Random(f"{seed} {point}")
    ids = range(min(vocabulary, 1000) // 2, vocabulary)
    return [Prompt(tokens=tuple(draw.choices(ids, k=point.prompt_tokens))) for _ in range(point.at_once)]


@dataclass(frozen=True, slots=True)
class Reading:
    """One round. seconds: from handing over the batch to its last token; first: to each request's first token;
    between: from each token to the next one of the same request.
    """

    seconds: float
    first: tuple[float, ...]
    between: tuple[float, ...]


def read(made: Sequence[Generated]) -> Reading:
    """A round's reading, from what the engine made."""
    return Reading(
        seconds=max(one.times[-1] for one in made),
        first=tuple(one.times[0] for one in made),
        between=tuple(after - before for one in made for before, after in zip(one.times, one.times[1:], strict=False)),
    )


def run(engine: ServingEngine, point: Point, vocabulary: int, seed: int = 0) -> Reading:
    """One round of a point.

    Raises:
        EngineError: the engine died, or made fewer tokens than asked.
    """
    return read(engine.generate(prompts(point, vocabulary, seed), point.new_tokens, past_the_end=True))


@dataclass(frozen=True, slots=True)
class Spread:
    """Several rounds of one figure: median, lower and upper quartile, and all of them."""

    median: float
    low: float
    high: float
    figures: tuple[float, ...]

    @property
    def relative(self) -> float:
        """The distance between the quartiles over the median."""
        return (self.high - self.low) / self.median


def spread(figures: Sequence[float]) -> Spread:
    """Of at least two rounds, by linear interpolation between them; of one, the figure itself."""
    if len(figures) == 1:
        return Spread(figures[0], figures[0], figures[0], tuple(figures))
    low, middle, high = quantiles(figures, n=4, method="inclusive")
    return Spread(middle, low, high, tuple(figures))


def figure(point: Point, reading: Reading) -> float:
    """A round's figure in the point's unit: milliseconds to the first token, or tokens a second over a whole round."""
    if point.kind == "first token":
        return 1e3 * median(reading.first)
    return point.tokens / reading.seconds


def latencies(readings: Sequence[Reading]) -> dict[str, dict[str, float]]:
    """Milliseconds to the first token and between tokens, percentile by percentile: medians over rounds."""
    return {
        "time_to_first_token_ms": _percentiles([reading.first for reading in readings]),
        "inter_token_ms": _percentiles([reading.between for reading in readings]),
    }


def _percentiles(rounds: Sequence[Sequence[float]]) -> dict[str, float]:
    cuts = {"p50": 50, "p95": 95, "p99": 99}
    filled = [sorted(values) for values in rounds if values]
    if not filled:
        return {}
    return {name: 1e3 * median(_percentile(values, cut) for values in filled) for name, cut in cuts.items()}


def _percentile(ordered: Sequence[float], cut: int) -> float:
    place = (len(ordered) - 1) * cut / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def vocabulary_of(config: Mapping[str, object]) -> int:
    """Token ids that the thinker knows."""
    inner = config
    for name in ("thinker_config", "text_config"):
        value = inner.get(name, inner)
        inner = value if isinstance(value, Mapping) else {}
    size = inner.get("vocab_size")
    if not isinstance(size, int) or size < 2:
        from pytest_q3omni.errors import Inconsistent

        raise Inconsistent(f"vocab_size {size!r}", where="config.json", expected="a number", fix="correct the config")
    return size
