"""The scripted engine: it says what it is told, when it is told, and only while it is open."""

from __future__ import annotations

import pytest

from pytest_q3omni.engines.fake_serving import FakeServing
from pytest_q3omni.engines.serving import Kernels, Prompt, PromptLogprobs, ServingEngine
from pytest_q3omni.errors import InvalidRequest

pytestmark = pytest.mark.tiny

THREE = [Prompt(tokens=(1,)), Prompt(tokens=(2, 3)), Prompt(tokens=(4,))]


@pytest.fixture
def engine() -> ServingEngine:
    made = FakeServing(first=0.5, between=0.25)
    made.load()
    return made


def test_many_share_the_time(engine) -> None:
    assert [one.times for one in engine.generate(THREE[:1], 3)] == [(0.5, 0.75, 1.0)]
    assert [one.times for one in engine.generate(THREE[:2], 3)] == [(1.0, 1.5, 2.0)] * 2
    made = engine.generate(THREE, 2, past_the_end=True)
    assert [one.tokens for one in made] == [(0, 1)] * 3


def test_each_call_may_take_its_own_time() -> None:
    made = FakeServing(first=[0.5, 0.25], between=[0.5, 0.25])
    made.load()
    times = [made.generate(THREE[:1], 2)[0].times for _ in range(3)]
    assert times == [(0.5, 1.0), (0.25, 0.5), (0.25, 0.5)]


def test_log_probabilities_are_scripted(engine) -> None:
    with pytest.raises(InvalidRequest, match=r"somewhere: no log-probabilities are scripted.*pass logprobs="):
        engine.prompt_logprobs(THREE)
    likely = lambda prompt: PromptLogprobs(prompt.tokens[1:], (-1.0,) * len(prompt.tokens[1:]), (7,))  # noqa: E731
    told = FakeServing(logprobs=likely)
    told.load()
    assert [one.tokens for one in told.prompt_logprobs(THREE)] == [(), (3,), ()]


def test_what_it_holds() -> None:
    made = FakeServing(weights="random", weight_bytes=1000, kernels=Kernels(cuda_graphs="full"), capability=(9, 0))
    loaded = made.load()
    assert (loaded.weights, loaded.weight_bytes, loaded.capability) == ("random", 1000, (9, 0))
    assert not loaded.kernels.eager
    assert made.memory().allocated == loaded.weight_bytes + loaded.kv_cache_bytes


def test_a_shared_log_tells_the_order_and_each_opening_once() -> None:
    log: list[str] = []
    first, second = FakeServing("a", log=log), FakeServing("b", log=log)
    first.load()
    first.load()
    first.close()
    first.close()
    second.load()
    first.load()
    assert log == ["load a", "close a", "load b", "load a"]


def test_it_answers_only_while_it_is_open(engine) -> None:
    engine.close()
    for asked in (engine.memory, lambda: engine.generate(THREE, 1), lambda: engine.prompt_logprobs(THREE)):
        with pytest.raises(InvalidRequest, match=r"somewhere: the engine is not loaded. Fix: call load\(\) first"):
            asked()
