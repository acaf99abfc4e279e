"""Speed and memory are judged by repeated rounds: medians and quartiles, never by a lucky one."""

from __future__ import annotations

import math
from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_q3omni.assertions import assert_memory_ratio, assert_speedup
from pytest_q3omni.engines.fake_serving import FakeServing
from pytest_q3omni.errors import InvalidRequest
from pytest_q3omni.serve.throughput import ROUNDS, spread

pytestmark = pytest.mark.tiny

ORIGINAL = (100.0, 101.0, 99.0, 100.5, 99.5)
QUANTIZED = tuple(1.5 * one for one in ORIGINAL)
RATES = st.lists(st.floats(1, 1000), min_size=ROUNDS, max_size=9)
BOUNDS = st.floats(0.5, 2)


def passes(quantized, original, bound) -> bool:
    try:
        assert_speedup(quantized, original, at_least=bound)
    except AssertionError:
        return False
    return True


def test_what_it_measured_is_handed_back() -> None:
    measured = assert_speedup(QUANTIZED, ORIGINAL, at_least=1.2, what="decode at 8")
    assert (measured.name, measured.value, measured.bound, measured.unit) == ("speedup of decode at 8", 1.5, 1.2, "x")
    assert measured.details["quantized"] == QUANTIZED
    assert measured.details["original"] == ORIGINAL
    assert measured.details["low"] == pytest.approx(1.5 * 99.5 / 100.5)
    assert measured.details["high"] == pytest.approx(1.5 * 100.5 / 99.5)


@pytest.mark.parametrize(
    ("bound", "told"), [(1.4, ""), (1.495, "the runs do not tell"), (1.5, "the runs do not tell"), (1.51, "slower")]
)
def test_it_holds_only_with_the_quartiles_against_it(bound, told) -> None:
    if not told:
        assert assert_speedup(QUANTIZED, ORIGINAL, at_least=bound).value == 1.5
        return
    with pytest.raises(AssertionError, match=told):
        assert_speedup(QUANTIZED, ORIGINAL, at_least=bound)


def test_a_bound_that_the_quartiles_reach_exactly_holds() -> None:
    assert assert_speedup([2.0] * 5, [1.0] * 5, at_least=2).value == 2


def test_spreads_arrays_and_lists_are_as_good_as_tuples() -> None:
    given = [(list(QUANTIZED), np.array(ORIGINAL)), (spread(QUANTIZED), spread(ORIGINAL))]
    assert {assert_speedup(ours, theirs, at_least=1.2).value for ours, theirs in given} == {1.5}
    assert assert_speedup([2, 2, 2, 2, 2], np.ones(5, np.float32), at_least=1).value == 2


@given(RATES, RATES, BOUNDS, st.data())
def test_one_lucky_round_is_not_enough(quantized, original, bound, data) -> None:
    """All rounds but one are too slow, whatever the original's are: the one may be as fast as it likes."""
    slow = [min(one, 0.99 * bound * min(original)) for one in quantized]
    place = data.draw(st.integers(0, len(slow) - 1))
    slow[place] *= data.draw(st.floats(1, 1e6))
    assert not passes(slow, original, bound)


@given(RATES, RATES, BOUNDS, st.data())
def test_one_unlucky_round_of_the_original_is_not_enough(quantized, original, bound, data) -> None:
    fast = [max(one, 1.01 * max(quantized) / bound) for one in original]
    place = data.draw(st.integers(0, len(fast) - 1))
    fast[place] /= data.draw(st.floats(1, 1e6))
    assert not passes(quantized, fast, bound)


@given(RATES, RATES, BOUNDS, st.floats(1, 10))
def test_faster_in_every_round_never_turns_a_pass_into_a_failure(quantized, original, bound, factor) -> None:
    assume(passes(quantized, original, bound))
    assert passes([factor * one for one in quantized], original, bound)
    assert passes(quantized, [one / factor for one in original], bound)


@given(RATES, RATES, BOUNDS)
def test_what_passes_has_medians_above_the_bound(quantized, original, bound) -> None:
    assume(passes(quantized, original, bound))
    assert np.median(quantized) / np.median(original) >= bound * (1 - 1e-12)
    assert not passes(original, quantized, 1 / bound * 1.01), "the other way round it is slower"


@given(RATES)
def test_against_itself_nothing_is_faster(rates) -> None:
    assert not passes(rates, rates, 1.01)


@pytest.mark.parametrize(
    "rate", [0, 0.0, -1.0, math.nan, math.inf, True, "100", None, Decimal(100), 1j], ids=lambda value: f"{value!r}"
)
@pytest.mark.parametrize("which", ["quantized", "original"])
def test_rates_that_are_none_are_refused(rate, which) -> None:
    rounds = {"quantized": QUANTIZED, "original": ORIGINAL}
    rounds[which] = (*rounds[which][:-1], rate)
    with pytest.raises(InvalidRequest, match=f"{which} has rates that are none: .*expected numbers above 0. Fix: "):
        assert_speedup(**rounds, at_least=1)


@pytest.mark.parametrize("given", [5, None, 219.0, SimpleNamespace(figures=3.0)])
def test_one_number_is_no_rounds(given) -> None:
    told = "original has rates that are none" if given is None else "original has 1 rounds; expected at least 5"
    with pytest.raises(InvalidRequest, match=told):
        assert_speedup(QUANTIZED, given, at_least=1)


@pytest.mark.parametrize("count", [0, 1, ROUNDS - 1])
def test_fewer_than_five_rounds_are_refused(count) -> None:
    with pytest.raises(InvalidRequest, match=f"original has {count} rounds; expected at least {ROUNDS}"):
        assert_speedup(QUANTIZED, ORIGINAL[:count], at_least=1)
    with pytest.raises(InvalidRequest, match=f"quantized has {count} rounds"):
        assert_speedup(SimpleNamespace(figures=QUANTIZED[:count]), ORIGINAL, at_least=1)


@pytest.mark.parametrize("bound", [0, -1, math.nan, math.inf, True, "1.5", None])
def test_bounds_that_judge_nothing_are_refused(bound) -> None:
    with pytest.raises(InvalidRequest, match=r"at_least=.*expected a number above 0.*a factor"):
        assert_speedup(QUANTIZED, ORIGINAL, at_least=bound)
    with pytest.raises(InvalidRequest, match="at_least="):
        assert_memory_ratio(1, 3, at_least=bound)


def loaded(weight_bytes):
    return FakeServing(weight_bytes=weight_bytes).load()


def test_memory_is_compared_as_bytes_or_as_what_engines_load() -> None:
    measured = assert_memory_ratio(loaded(1000), 2500, at_least=2.5)
    assert (measured.name, measured.value, measured.bound, measured.unit) == ("memory ratio", 2.5, 2.5, "x")
    assert measured.details == {"quantized": 1000, "original": 2500}
    assert assert_memory_ratio(1000, loaded(2500), at_least=1).value == 2.5


def test_a_bound_above_what_four_bits_can_reach_is_refused() -> None:
    assert assert_memory_ratio(9, 32, at_least=16 / 4.5).value == 32 / 9
    with pytest.raises(InvalidRequest, match=r"at_least=4; expected .*at most 3\.55556 \(NVFP4 has 4\.5 bits"):
        assert_memory_ratio(1, 4, at_least=4)


@pytest.mark.parametrize("given", [0, -1, True, 1.5, math.nan, None, "9"])
def test_bytes_that_are_none_are_refused(given) -> None:
    for ours, theirs in ((given, 9), (9, given), (SimpleNamespace(weight_bytes=given), 9)):
        with pytest.raises(InvalidRequest, match=r"=.*; expected bytes\. Fix: take what the engine's load"):
            assert_memory_ratio(ours, theirs, at_least=1)
