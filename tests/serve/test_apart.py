"""Figures of two lists of log-probabilities, against numpy and by hand."""

import math

import pytest

np = pytest.importorskip("numpy")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from pytest_q3omni.engines.serving import PromptLogprobs  # noqa: E402
from pytest_q3omni.errors import EngineError  # noqa: E402
from pytest_q3omni.serve.apart import Said, apart, as_if_from, check_same_tokens, deltas, said  # noqa: E402

pytestmark = pytest.mark.tiny

NUMBERS = st.floats(-30, 0, width=32)


def line(*logprobs):
    return Said(np.array(logprobs, np.float64), np.zeros(len(logprobs), np.int64))


def test_answers_are_read_at_their_positions_one_after_the_other():
    first = PromptLogprobs((1, 2, 3), (-1.0, -2.0, -3.0), (7, 8, 9))
    again = PromptLogprobs((1, 2, 3), (-1.5, -2.5, -3.5), (7, 0, 9))
    found = said([first, again], np.array([0, 2]))
    assert found.logprobs.tolist() == [-1.0, -3.0, -1.5, -3.5]
    assert found.most_likely.tolist() == [7, 9, 7, 9]


def test_what_is_no_number_is_infinitely_far():
    assert deltas(line(-1, math.nan, -math.inf, -2), line(-3, -1, -math.inf, math.nan)).tolist() == [
        2, math.inf, math.inf, math.inf
    ]  # fmt: skip


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=3, max_size=40))
def test_what_is_in_common_is_numpys_correlation_of_the_effects(rows):
    reference, other, base = (line(*column) for column in zip(*rows, strict=True))
    effects = [one.logprobs - base.logprobs for one in (reference, other)]
    found = apart([reference], [other], [base]).in_common
    if min(each.std() for each in effects) < 1e-9:
        assert abs(found) <= 1 + 1e-9
    else:
        assert found == pytest.approx(np.corrcoef(*effects)[0, 1], abs=1e-9)


def test_who_does_nothing_has_nothing_in_common():
    base, reference = line(-1, -2, -3), line(-1.5, -1.8, -3.1)
    assert apart([reference], [base], [base]).in_common == 0
    assert apart([reference], [line(-2, -3, -4)], [base]).in_common == 0, "the same everywhere is no rounding"
    assert apart([reference], [line(-1, math.nan, -3)], [base]).in_common == 0
    assert apart([reference], [reference], [base]).in_common == pytest.approx(1)
    assert apart([reference], [reference]).in_common is None


def test_an_effect_is_moved_to_another_base():
    base, before = PromptLogprobs((1, 2), (-1.0, -2.0), (5, 5)), PromptLogprobs((1, 2), (-3.0, -3.0), (6, 6))
    after = PromptLogprobs((1, 2), (-3.5, -2.0), (7, 8))
    assert as_if_from([base], [before], [after]) == [PromptLogprobs((1, 2), (-1.5, -1.0), (7, 8))]
    with pytest.raises(EngineError, match=r"prompt 0.*from position 2 on"):
        as_if_from([base], [PromptLogprobs((1, 3), (-3.0, -3.0), (6, 6))], [after])


def test_other_tokens_are_refused_by_the_prompts_name():
    check_same_tokens("image 1", (1, 2), (1, 2))
    with pytest.raises(EngineError, match=r"image 1.*1 tokens that differ from the reference's 2 from position 2 on"):
        check_same_tokens("image 1", (1, 2), (1,))
