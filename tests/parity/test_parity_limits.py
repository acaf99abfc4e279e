"""Limits of a mean KL: what they are made of, when they mean something, and what lies beyond them."""

import math
import warnings
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_q3omni.records import Divergence

pytestmark = pytest.mark.tiny

pytest.importorskip("scipy", reason="needs the quantize extra: pip install pytest-q3omni[quantize]")

from pytest_q3omni.parity.divergence import margin, upper_bound  # noqa: E402
from pytest_q3omni.parity.limits import limit, needed_tokens, state  # noqa: E402

T10 = 3.957  # Student's t of 10 degrees of freedom, at three sigmas


def some(mean, error=0.0, *, conversations=11, tokens=100):
    return Divergence(conversations, tokens, mean, error, mean, mean, mean, mean, 1.0)


NOISE = some(1e-7, 1e-8)


def test_the_limit_is_four_times_what_plain_nvfp4_costs_at_most():
    assert limit(some(0.01), NOISE) == pytest.approx(0.04)
    assert limit(some(0.01, 0.002), NOISE) == pytest.approx(4 * (0.01 + T10 * 0.002), rel=1e-3)


def test_bf16_that_differs_more_from_itself_sets_the_limit():
    assert limit(some(0.001), some(0.01, 0.001)) == pytest.approx(4 * (0.01 + T10 * 0.001), rel=1e-3)
    assert limit(some(0.01), some(0.001, 0.1)) == pytest.approx(4 * (0.001 + T10 * 0.1), rel=1e-3), "its doubt, too"


def test_one_conversation_limits_nothing():
    one = some(0.01, math.inf, conversations=1)
    assert limit(one, NOISE) == limit(some(0.01), one) == math.inf


def test_tokens_that_are_needed():
    # 100 tokens know the mean to 3.957 * 0.02 = 0.0791, eight times the mean: twice needs sixteen times as many
    assert needed_tokens(some(0.01, 0.02), NOISE) == pytest.approx(100 * (T10 / 1) ** 2, abs=3)
    assert needed_tokens(some(0.01, 0.0), NOISE) == 0
    assert needed_tokens(some(0.0), some(0.0)) == 0, "where packing costs nothing, anything more is too much"
    assert needed_tokens(some(0.01, math.inf, conversations=1, tokens=7), NOISE) == 14


@pytest.mark.parametrize("mean", [1e-160, 1e-322])
def test_a_mean_next_to_nothing_needs_many_tokens_and_not_an_overflow(mean):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert needed_tokens(some(mean, 1.0), some(0.0)) == 100 * 10**12


means, errors = st.floats(1e-6, 1.0), st.floats(1e-7, 1.0)
counts, sizes = st.integers(2, 500), st.integers(2, 10_000)


@given(means, errors, counts, sizes)
def test_with_the_needed_tokens_the_limit_is_at_most_three_times_too_high(mean, error, conversations, tokens):
    plain = some(mean, error, conversations=conversations, tokens=tokens)
    assume(margin(plain) <= 2e6 * mean)  # more doubt than that needs no more tokens, see below
    needed = needed_tokens(plain, NOISE)

    def with_tokens(count):  # the same conversations, longer: the error falls with the root
        return replace(plain, tokens=count, error=error * math.sqrt(tokens / count))

    assert margin(with_tokens(needed)) <= 2 * mean * (1 + 1e-9)
    assert upper_bound(with_tokens(needed)) <= 3 * mean * (1 + 1e-9)
    if needed > 1:
        assert margin(with_tokens(needed - 1)) > 2 * mean * (1 - 1e-9)


@given(means, errors, counts, sizes, st.floats(1.0, 100.0))
def test_more_doubt_needs_more_tokens_and_a_larger_cost_fewer(mean, error, conversations, tokens, factor):
    plain = some(mean, error, conversations=conversations, tokens=tokens)
    needed = needed_tokens(plain, NOISE)
    assert needed_tokens(replace(plain, error=error * factor), NOISE) >= needed
    assert needed_tokens(replace(plain, mean=mean * factor), NOISE) <= needed
    assert needed_tokens(replace(plain, conversations=conversations + 1), NOISE) <= needed


@pytest.mark.parametrize(
    ("mean", "tokens", "conversations", "expected"),
    [
        (0.03, 100, 11, "pass"),
        (0.04, 100, 11, "pass"),  # the limit itself is allowed
        (0.0401, 100, 11, "fail"),
        (0.0401, 5, 11, "fail"),  # a failure does not wait for more tokens
        (0.0401, 5, 1, "fail"),
        (0.03, 49, 11, "not checked"),
        (0.03, 50, 11, "pass"),
        (0.03, 100, 1, "not checked"),
    ],
)
def test_states(mean, tokens, conversations, expected):
    assert state(some(mean, conversations=conversations, tokens=tokens), 0.04, 50) == expected


def test_models_that_say_exactly_the_same_need_no_more_tokens():
    exact = some(0.0, conversations=2, tokens=2)
    assert state(exact, 0.04, 4) == "pass"
    assert state(replace(exact, largest=1e-9), 0.04, 4) == "not checked"
    assert state(replace(exact, conversations=1), math.inf, 4) == "not checked", "one is never enough"


def test_no_mean_is_beyond_an_infinite_limit():
    assert state(some(12.0, conversations=1), math.inf, 0) == "not checked"


@pytest.mark.parametrize("conversations", [1, 11])
def test_what_is_no_number_fails_however_wide_the_limit_is(conversations):
    broken = some(math.inf, math.inf, conversations=conversations)
    assert state(broken, math.inf, 0) == state(broken, 0.04, 50) == "fail"


def test_where_nothing_may_differ_any_difference_fails():
    exact = some(0.0)
    assert state(exact, limit(exact, exact), needed_tokens(exact, exact)) == "pass"
    assert state(some(1e-9), limit(exact, exact), needed_tokens(exact, exact)) == "fail"
