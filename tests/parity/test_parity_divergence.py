"""KL per answer token: against loops of plain floats, against what a resampling says, against published quantiles."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_q3omni.errors import EngineError
from pytest_q3omni.parity import divergence as measured
from pytest_q3omni.parity.divergence import accuracy, divergence, margin, quantile, upper_bound
from pytest_q3omni.records import Divergence

pytestmark = pytest.mark.tiny

SCIPY = "needs the quantize extra: pip install pytest-q3omni[quantize]"
NEVER = -math.inf


def logs(*rows):
    """Probabilities as an answer's log-probabilities."""
    with np.errstate(divide="ignore"):
        return np.log(np.array(rows, dtype=np.float64)).astype(np.float32)


def log_softmax(logits):
    values = np.asarray(logits, dtype=np.float64)
    values = values - values.max(-1, keepdims=True)
    return (values - np.log(np.exp(values).sum(-1, keepdims=True))).astype(np.float32)


def by_hand(reference, other):
    """KL of two tokens' distributions, one term after the other."""
    pairs = zip(map(float, reference), map(float, other), strict=True)
    return math.fsum(math.exp(mine) * (mine - theirs) for mine, theirs in pairs if mine > NEVER)


def answers(seed, sizes, spread=1.0, vocabulary=7):
    """Two models' log-probabilities for answers of these lengths; `spread` of what one thinks differently."""
    random = np.random.default_rng(seed)
    logits = [random.normal(size=(size, vocabulary)) for size in sizes]
    moved = [each + random.normal(size=each.shape) * spread * random.uniform(0.3, 1.7) for each in logits]
    return [log_softmax(each) for each in logits], [log_softmax(each) for each in moved]


@st.composite
def _pairs(draw):
    vocabulary = draw(st.integers(2, 6))
    number = st.floats(-20, 20, width=32)
    row = st.lists(number, min_size=vocabulary, max_size=vocabulary)
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    side = st.tuples(*(st.lists(row, min_size=size, max_size=size) for size in sizes))
    return tuple([log_softmax(each) for each in draw(side)] for _ in range(2))


@given(_pairs())
def test_every_figure_is_that_of_a_loop(pair):
    reference, other = pair
    tokens = [(a, b) for mine, theirs in zip(reference, other, strict=True) for a, b in zip(mine, theirs, strict=True)]
    values = [max(0.0, by_hand(a, b)) for a, b in tokens]
    found = divergence(reference, other)
    assert (found.conversations, found.tokens) == (len(reference), len(tokens))
    assert found.mean == pytest.approx(statistics.fmean(values), rel=1e-9, abs=1e-12)
    assert found.median == pytest.approx(statistics.median(values), rel=1e-9, abs=1e-12)
    assert found.largest == pytest.approx(max(values), rel=1e-9, abs=1e-12)
    assert found.top1 == pytest.approx(statistics.fmean(a.tolist().index(max(a)) == b.tolist().index(max(b))
                                                        for a, b in tokens))  # fmt: skip


def test_a_value_computed_on_paper():
    # 1/2 log(1/2 / 1/4) + 1/2 log(1/2 / 3/4) = 1/2 log(4/3)
    found = divergence([logs((0.5, 0.5))], [logs((0.25, 0.75))])
    assert found.mean == pytest.approx(0.5 * math.log(4 / 3), rel=1e-6)
    back = divergence([logs((0.25, 0.75))], [logs((0.5, 0.5))])
    assert back.mean == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5), rel=1e-6), "it has a direction"


def test_scipy_says_the_same():
    special = pytest.importorskip("scipy.special", reason=SCIPY)
    reference, other = answers(1, (3, 4))
    probabilities = (np.exp(np.concatenate(side).astype(np.float64)) for side in (reference, other))
    # rel_entr takes probabilities, which float32 logarithms give to seven digits
    assert divergence(reference, other).mean == pytest.approx(special.rel_entr(*probabilities).sum(-1).mean(), rel=1e-5)


def test_quantiles_are_interpolated_between_tokens():
    reference, other = answers(2, (60, 41))
    values = [by_hand(a, b) for a, b in zip(np.concatenate(reference), np.concatenate(other), strict=True)]
    cuts = statistics.quantiles(values, n=1000, method="inclusive")
    found = divergence(reference, other)
    assert (found.p99, found.p999) == (pytest.approx(cuts[989]), pytest.approx(cuts[998]))
    assert found.median < found.p99 < found.p999 < found.largest


def test_equal_answers_are_no_nats_apart():
    reference, _ = answers(3, (4, 2))
    found = divergence(reference, reference)
    assert (found.mean, found.error, found.largest, found.top1) == (0.0, 0.0, 0.0, 1.0)


def test_rounding_below_zero_is_zero():
    reference = [logs((0.5, 0.5)), logs((0.25, 0.75))]
    found = divergence(reference, [each + np.float32(1e-6) for each in reference])
    assert (found.mean, found.largest) == (0.0, 0.0)


def test_a_token_that_the_reference_never_says_adds_nothing():
    reference, other = [logs((0.5, 0.5, 0.0))], [logs((0.25, 0.5, 0.25))]
    expected = pytest.approx(0.5 * math.log(2), rel=1e-6)
    assert divergence(reference, other).mean == expected
    both = [logs((0.25, 0.75, 0.0))]
    assert divergence(reference, both).mean == pytest.approx(0.5 * math.log(4 / 3), rel=1e-6), "suppressed in both"


@pytest.mark.parametrize(
    "broken",
    [
        (math.nan, math.nan),
        (math.nan, 0.5),
        (0.0, 1.0),  # never says what the reference says
    ],
)
def test_what_is_no_number_is_infinitely_far_and_no_small_mean(broken):
    fine = logs((0.25, 0.75), (0.25, 0.75))
    reference, other = [logs((0.5, 0.5), (0.5, 0.5)), logs((0.5, 0.5))], [fine, logs(broken)]
    found = divergence(reference, other)
    assert (found.mean, found.error, found.largest, found.p99, found.p999) == (math.inf,) * 5
    assert (found.conversations, found.tokens) == (2, 3)


def test_of_four_tokens_of_which_one_is_no_number_three_have_a_median():
    values = [logs((0.5, 0.5), (0.25, 0.75), (0.1, 0.9), (math.nan, math.nan))]
    found = divergence([logs(*[(0.5, 0.5)] * 4)], values)
    near, far = 0.5 * math.log(4 / 3), 0.5 * math.log(25 / 9)
    assert found.median == pytest.approx((near + far) / 2, rel=1e-6)
    every = divergence([logs(*[(0.5, 0.5)] * 4)], [np.full((4, 2), math.nan, np.float32)])
    assert every.median == math.inf, "between two infinities, too"


def test_a_reference_that_is_no_number_is_an_error():
    other = [logs((0.5, 0.5), (0.5, 0.5))]
    with pytest.raises(EngineError, match=r"^the original: NaN .*expected finite numbers.*q3omni verify"):
        divergence([logs((0.5, 0.5), (math.nan, 0.5))], other)


def test_vocabularies_of_two_sizes_are_an_error():
    reference, other = answers(1, (2,), vocabulary=1200), answers(1, (2,), vocabulary=1100)
    with pytest.raises(EngineError, match="1,100 entries in the vocabulary; expected 1,200, as in the original"):
        divergence(reference[0], other[0])


@pytest.mark.parametrize("place", [0, 63, 64, 127, 128, 149])
def test_a_long_answer_is_measured_to_its_last_token(place):
    """It is measured in slices of 64 tokens."""
    reference, other = answers(13, (150,))
    values = [by_hand(a, b) for a, b in zip(reference[0], other[0], strict=True)]
    assert divergence(reference, other).mean == pytest.approx(statistics.fmean(values), rel=1e-9)
    only = [reference[0].copy()]
    only[0][place] = other[0][place]
    found = divergence(reference, only)
    assert found.largest == pytest.approx(values[place], rel=1e-9)
    assert found.mean == pytest.approx(values[place] / 150, rel=1e-9)


def test_the_answers_of_both_must_be_the_same_ones():
    reference, other = answers(4, (2, 2))
    with pytest.raises(ValueError, match="zip"):
        divergence(reference, other[:1])


# --- how sure the mean is


def test_one_conversation_says_nothing_of_spread():
    reference, other = answers(5, (50,))
    assert divergence(reference, other).error == math.inf


def test_the_error_of_equally_long_answers_is_that_of_their_means():
    reference, other = answers(6, (4,) * 9)
    means = [divergence([a], [b]).mean for a, b in zip(reference, other, strict=True)]
    assert divergence(reference, other).error == pytest.approx(statistics.stdev(means) / math.sqrt(9))


@pytest.mark.parametrize("seed", [7, 8, 9])
def test_the_error_is_that_of_leaving_one_conversation_out(seed):
    sizes = np.random.default_rng(seed).integers(2, 12, size=40).tolist()
    reference, other = answers(seed, sizes)
    found = divergence(reference, other)
    without = [
        divergence(reference[:number] + reference[number + 1 :], other[:number] + other[number + 1 :]).mean
        for number in range(40)
    ]
    jackknife = math.sqrt(39 / 40 * sum((each - found.mean) ** 2 for each in without))
    assert found.error == pytest.approx(jackknife, rel=0.1)


def test_the_error_is_that_of_drawing_conversations_again():
    sizes = np.random.default_rng(10).integers(2, 12, size=60)
    reference, other = answers(10, sizes.tolist())
    nats = np.array([divergence([a], [b]).mean * len(a) for a, b in zip(reference, other, strict=True)])
    drawn = np.random.default_rng(11).integers(0, 60, size=(4000, 60))
    means = nats[drawn].sum(1) / sizes[drawn].sum(1)
    assert divergence(reference, other).error == pytest.approx(means.std(), rel=0.1)


def test_tokens_of_one_answer_count_as_one_observation():
    """Fifty copies of a token tell no more than one: an error over tokens would be seven times smaller."""
    reference, other = answers(12, (1,) * 8)
    found = divergence(reference, other)
    longer = divergence([each.repeat(50, 0) for each in reference], [each.repeat(50, 0) for each in other])
    assert longer.tokens == 50 * found.tokens
    assert longer.error == pytest.approx(found.error)


def some(conversations, mean=0.01, error=0.002):
    return Divergence(conversations, 100, mean, error, 0.0, 0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("degrees", "published"),
    [(1, 235.80), (2, 19.21), (3, 9.22), (4, 6.62), (5, 5.51), (10, 3.96), (20, 3.42), (50, 3.16), (100, 3.077)],
)
def test_quantiles_of_students_t_are_the_published_ones(degrees, published):
    """JCGM 100:2008 (GUM), table G.2, at 99.73 %: three standard deviations of a normal distribution on both sides."""
    pytest.importorskip("scipy", reason=SCIPY)
    assert quantile(degrees) == pytest.approx(published, rel=1.5e-3)


def test_the_bound_of_few_conversations_is_wide():
    pytest.importorskip("scipy", reason=SCIPY)
    assert margin(some(11)) == pytest.approx(3.957 * 0.002, rel=1e-3)
    assert upper_bound(some(11)) == pytest.approx(0.01 + 3.957 * 0.002, rel=1e-3)
    margins = [margin(some(count)) for count in (2, 3, 6, 11, 1000)]
    assert margins == sorted(margins, reverse=True)
    assert margins[-1] == pytest.approx(measured.SIGMAS * 0.002, rel=0.01)


def test_the_bound_of_one_conversation_is_none():
    assert upper_bound(some(1, error=math.inf)) == margin(some(1, error=math.inf)) == math.inf
    assert margin(some(1, error=0.0)) == math.inf


# --- right answers


def test_an_answer_is_right_where_every_token_is_the_likeliest():
    values = [logs((0.9, 0.1), (0.2, 0.8)), logs((0.6, 0.4))]
    assert accuracy(values, [(0, 1), (0,)]) == 1.0
    assert accuracy(values, [(0, 0), (0,)]) == 0.5, "one wrong token, one wrong answer"
    assert accuracy(values, [np.array([1, 0]), np.array([1])]) == 0.0
