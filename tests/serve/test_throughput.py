"""How rounds become figures: readings by hand, percentiles against numpy, prompts that are the same each time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_q3omni.engines.fake_serving import FakeServing
from pytest_q3omni.engines.serving import Generated
from pytest_q3omni.errors import EngineError, Inconsistent
from pytest_q3omni.omni.config import read_json
from pytest_q3omni.omni.tiny import checkpoint_path
from pytest_q3omni.serve import throughput
from pytest_q3omni.serve.throughput import FULL_POINTS, TINY_POINTS, Point, Reading, figure, latencies, read, spread

pytestmark = pytest.mark.tiny

SECONDS = st.floats(1e-6, 1e4)
DECODE, FIRST, PREFILL = Point("decode", 2, 16, 3), Point("first token", 2, 16, 1), Point("prefill", 2, 16, 1)


def made(*times: float) -> Generated:
    return Generated(tuple(range(len(times))), times)


def test_a_reading_by_hand() -> None:
    reading = read([made(0.25, 0.5, 1.0), made(0.5, 0.75, 1.5)])
    assert reading == Reading(seconds=1.5, first=(0.25, 0.5), between=(0.25, 0.5, 0.25, 0.75))


def test_one_token_has_nothing_after_it() -> None:
    assert read([made(0.25)]) == Reading(seconds=0.25, first=(0.25,), between=())


def test_a_rate_counts_all_requests_over_the_whole_round() -> None:
    reading = read([made(0.25, 0.5, 1.0), made(0.5, 0.75, 1.5)])
    assert figure(DECODE, reading) == 2 * 3 / 1.5
    assert figure(PREFILL, reading) == 2 * 16 / 1.5
    assert figure(FIRST, reading) == 375.0, "milliseconds, the median of two requests"


@given(st.lists(st.lists(SECONDS, min_size=1, max_size=40), min_size=1, max_size=6))
def test_percentiles_are_numpys_and_medians_over_rounds(rounds: list[list[float]]) -> None:
    readings = [Reading(1.0, tuple(values), ()) for values in rounds]
    found = latencies(readings)
    assert found["inter_token_ms"] == {}
    for name, cut in (("p50", 50), ("p95", 95), ("p99", 99)):
        expected = 1e3 * np.median([np.percentile(values, cut) for values in rounds])
        assert found["time_to_first_token_ms"][name] == pytest.approx(expected, rel=1e-9)


@given(st.lists(SECONDS, min_size=1, max_size=60))
def test_percentiles_rise_and_lie_among_the_values(values: list[float]) -> None:
    cuts = latencies([Reading(1.0, (1.0,), tuple(values))])["inter_token_ms"]
    ordered = [1e3 * min(values), *cuts.values(), 1e3 * max(values)]
    assert all(before <= after * (1 + 1e-9) for before, after in pairwise(ordered))
    assert list(cuts) == ["p50", "p95", "p99"]


@given(st.lists(SECONDS, min_size=2, max_size=20))
def test_quartiles_are_numpys(figures: list[float]) -> None:
    found = spread(figures)
    expected = np.quantile(figures, [0.25, 0.5, 0.75])
    assert (found.low, found.median, found.high) == pytest.approx(tuple(expected), rel=1e-9)
    assert found.figures == tuple(figures)
    assert found.relative == pytest.approx((expected[2] - expected[0]) / expected[1], rel=1e-6, abs=1e-9)


def test_of_one_round_there_is_no_spread() -> None:
    found = spread([7.0])
    assert (found.low, found.median, found.high, found.relative) == (7.0, 7.0, 7.0, 0.0)


@given(st.lists(SECONDS, min_size=2, max_size=20), st.floats(0.1, 10))
def test_a_spread_has_no_unit(figures: list[float], factor: float) -> None:
    scaled = spread([factor * one for one in figures])
    assert scaled.median == pytest.approx(factor * spread(figures).median)
    assert scaled.relative == pytest.approx(spread(figures).relative, rel=1e-6, abs=1e-9)


@given(
    st.lists(st.lists(st.floats(1e-3, 10), min_size=3, max_size=3), min_size=2, max_size=2),
    st.floats(0.25, 4),
)
def test_twice_as_long_is_half_the_rate(steps: list[list[float]], factor: float) -> None:
    def reading(scale: float) -> Reading:
        return read([made(*(scale * float(one) for one in np.cumsum(each))) for each in steps])

    assert figure(DECODE, reading(factor)) == pytest.approx(figure(DECODE, reading(1)) / factor)
    assert figure(FIRST, reading(factor)) == pytest.approx(figure(FIRST, reading(1)) * factor)


POINTS = pytest.mark.parametrize("point", [*FULL_POINTS, *TINY_POINTS], ids=str)


@POINTS
def test_prompts_are_as_many_and_as_long_as_the_point_says(point: Point) -> None:
    found = throughput.prompts(point, 5000, seed=3)
    assert len(found) == point.at_once
    assert {len(one.tokens) for one in found} == {point.prompt_tokens}
    assert all(0 <= token < 5000 for one in found for token in one.tokens)
    assert found == throughput.prompts(point, 5000, seed=3)
    assert found != throughput.prompts(point, 5000, seed=4)
    assert len(set(found)) == len(found), "no two requests are the same"


@given(st.integers(2, 200_000), st.integers(0, 100))
def test_prompts_stay_within_the_vocabulary(vocabulary: int, seed: int) -> None:
    (found,) = throughput.prompts(TINY_POINTS[0], vocabulary, seed)
    assert all(0 <= token < vocabulary for token in found.tokens)


def test_prompts_spread_over_a_large_vocabulary() -> None:
    (found,) = throughput.prompts(Point("prefill", 1, 8192, 1), 151_936, seed=0)
    assert len(set(found.tokens)) > 7000
    assert min(found.tokens) >= 500, "the control characters of a byte-level vocabulary come first"


def test_points_have_names_of_their_own_and_fit_the_longest_request() -> None:
    for points in (FULL_POINTS, TINY_POINTS):
        assert len({str(point) for point in points}) == len(points)
    assert all(point.prompt_tokens + point.new_tokens <= throughput.MOST_TOKENS for point in FULL_POINTS)
    assert {point.at_once for point in FULL_POINTS if point.kind == "decode"} == set(throughput.AT_ONCE)
    assert [(str(point), point.unit) for point in (DECODE, FIRST, PREFILL)] == [
        ("decode at 2", "tokens/s"), ("first token of 16 tokens", "ms"), ("prefill of 16 tokens", "tokens/s"),
    ]  # fmt: skip


def test_a_round_asks_for_exactly_what_the_point_says() -> None:
    asked: list[tuple[int, int, bool]] = []

    class Watched(FakeServing):
        def generate(self, prompts, max_new_tokens, *, past_the_end=False):
            asked.append((len(prompts), max_new_tokens, past_the_end))
            return super().generate(prompts, max_new_tokens)

    engine = Watched(first=0.5, between=0.25)
    engine.load()
    reading = throughput.run(engine, DECODE, 436)
    assert asked == [(2, 3, True)]
    assert reading == Reading(2.0, (1.0, 1.0), (0.5,) * 4)


def test_an_engine_that_dies_is_its_own_error() -> None:
    class Dying(FakeServing):
        def generate(self, prompts, max_new_tokens, *, past_the_end=False):
            raise EngineError("ended with code 3", where="an engine")

    with pytest.raises(EngineError, match="ended with code 3"):
        throughput.run(Dying(), DECODE, 436)


def test_the_vocabulary_of_the_tiny_model() -> None:
    config = read_json(checkpoint_path() / "config.json")
    size = config["thinker_config"]["text_config"]["vocab_size"]
    assert throughput.vocabulary_of(config) == throughput.vocabulary_of(config["thinker_config"]) == size
    assert throughput.vocabulary_of({"vocab_size": 7}) == 7


NONSENSE: Sequence[object] = (
    {}, {"vocab_size": None}, {"vocab_size": "many"}, {"vocab_size": 1}, {"vocab_size": -5}, {"vocab_size": True},
    {"vocab_size": math.inf}, {"thinker_config": 3, "vocab_size": 7}, {"thinker_config": {"text_config": []}},
)  # fmt: skip


@pytest.mark.parametrize("config", NONSENSE, ids=str)
def test_a_vocabulary_that_is_none_is_refused(config) -> None:
    with pytest.raises(Inconsistent, match=r"config.json: vocab_size .*; expected a number\. Fix: correct the config"):
        throughput.vocabulary_of(config)
