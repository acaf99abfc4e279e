"""The comparison: what counts, what it says, and that it fails on what it must fail on."""

import math
import random
import re

import pytest

from pytest_q3omni.engines.serving import Prompt, PromptLogprobs
from pytest_q3omni.engines.vllm_questions import Question
from pytest_q3omni.errors import EngineError, InvalidRequest
from pytest_q3omni.serve.agreement import LEAST_POSITIONS, compare, placeholder_ids
from pytest_q3omni.serve.agreement_bounds import LEAST_IN_COMMON, MOST_MEAN, Bounds, input_bounds

pytestmark = pytest.mark.tiny

IMAGE = 900
PLACEHOLDERS = frozenset([IMAGE])


def questions(modality, count):
    return [Prompt(question=Question(f"{modality} {number}", modality, "?")) for number in range(count)]


def answers(prompts, length=40, off=0.0, wrong=0, seed=0, head=()):
    """Made-up answers: each log-probability `off` higher or lower, `wrong` of the most likely tokens otherwise."""
    generator, other = random.Random(0), random.Random(seed)
    found = []
    for _ in prompts:
        tokens = (*head, *(generator.randrange(100) for _ in range(length)))
        logprobs = [generator.uniform(-9, -1) for _ in tokens]
        likely = [generator.randrange(100) for _ in tokens]
        moved = tuple(value + other.choice([off, -off]) for value in logprobs)
        swapped = tuple(token + 100 if place >= len(tokens) - wrong else token for place, token in enumerate(likely))
        found.append(PromptLogprobs(tokens, moved, swapped))
    return found


def judged(prompts, found, repeat=None, **options):
    reference = answers(prompts)
    return compare(prompts, reference, [repeat or reference], found, placeholders=PLACEHOLDERS, **options)


def test_equal_answers_agree():
    prompts = questions("text", 4) + questions("image", 4)
    found = judged(prompts, answers(prompts))
    assert found.verdict.state == "pass"
    assert [row.modality for row in found.rows] == ["text", "image", "all"]
    assert {row.apart.mean for row in found.rows} == {0.0}
    assert found.rows[-1].apart.positions == 8 * 40
    assert not found.findings


def test_figures_are_those_of_the_deltas():
    prompts = questions("text", 3)
    (row, _) = judged(prompts, answers(prompts, off=0.01, wrong=2)).rows
    assert row.apart.mean == pytest.approx(0.01)
    assert [row.apart.median, row.apart.p99] == pytest.approx([0.01, 0.01])
    assert row.apart.largest == pytest.approx(0.01)
    assert row.apart.error == pytest.approx(0, abs=1e-9)
    assert row.apart.top1 == pytest.approx(38 / 40)
    assert row.state == "pass"


def test_a_mean_beyond_the_bound_fails_and_says_where():
    prompts = questions("text", 4) + questions("audio", 4)
    sound, far = answers(prompts), answers(prompts, off=0.05)
    mixed = [*sound[:4], *far[4:]]
    worst = list(mixed[6].logprobs)
    worst[17] -= 3.0
    mixed[6] = PromptLogprobs(mixed[6].tokens, tuple(worst), mixed[6].most_likely)
    found = judged(prompts, mixed)
    assert {row.modality: row.state for row in found.rows} == {"text": "pass", "audio": "fail", "all": "fail"}
    assert found.verdict.state == "fail"
    text = str(next(finding for finding in found.findings if finding.where == "audio prompts"))
    for part in ("mean |delta log p| 0.0", "audio 2", "position 18", f"token {mixed[6].tokens[17]}", "at most 0.02"):
        assert part in text
    assert "text prompts" not in {finding.where for finding in found.findings}


def test_other_tokens_most_likely_fail():
    prompts = questions("text", 4)
    found = judged(prompts, answers(prompts, wrong=5))
    assert found.rows[0].apart.mean == 0
    assert found.rows[0].state == "fail"
    assert judged(prompts, answers(prompts, wrong=4)).rows[0].state == "pass", "a tenth is allowed"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_number_is_never_near(value):
    prompts = questions("text", 4)
    found = answers(prompts)
    found[2] = PromptLogprobs(found[2].tokens, (value, *found[2].logprobs[1:]), found[2].most_likely)
    assert judged(prompts, found).rows[0].state == "fail"


def test_too_few_positions_say_nothing_and_how_many_are_needed():
    prompts = questions("text", 2)
    reference = answers(prompts, length=LEAST_POSITIONS // 2 - 1)
    found = compare(prompts, reference, [reference], reference, placeholders=PLACEHOLDERS)
    assert found.verdict.state == "not checked"
    assert f"needs {LEAST_POSITIONS}" in found.rows[0].why
    assert found.findings[0].severity == "warning"
    far = answers(prompts, length=5, off=1.0)
    few = answers(prompts, length=5)
    assert compare(prompts, few, [few], far, placeholders=PLACEHOLDERS).verdict.state == "fail", "few can show a fault"


def test_one_prompt_says_nothing_of_spread():
    prompts = questions("text", 1)
    reference = answers(prompts, length=200)
    found = compare(prompts, reference, [reference], reference, placeholders=PLACEHOLDERS)
    assert (found.rows[0].state, found.rows[0].why) == ("not checked", "1 prompts, needs 2 or more")


def test_a_mean_that_could_be_a_fault_says_nothing():
    """One prompt far off, three near: on average below the bound, and nobody knows what the next prompts bring."""
    prompts = questions("text", 3)
    near, far = answers(prompts), answers(prompts, off=0.055)
    bounds = Bounds(fault=0.06)
    found = judged(prompts, [near[0], near[1], far[2]], bounds=bounds)
    assert found.rows[0].apart.mean < MOST_MEAN
    assert found.rows[0].state == "not checked"
    needed = int(found.rows[0].why.split("needs ")[1].split()[0])
    assert needed > 3
    many = questions("text", needed + 3)
    near, far = answers(many), answers(many, off=0.055)
    mixed = [far[n] if n % 3 == 2 else near[n] for n in range(len(many))]
    assert judged(many, mixed, bounds=bounds).rows[0].state == "pass", "as many as it said are enough"


def test_an_engine_that_differs_from_itself_cannot_be_judged():
    prompts = questions("text", 4)
    noisy = answers(prompts, off=0.03)
    found = judged(prompts, answers(prompts), noisy)
    assert found.verdict.state == "not checked"
    assert "differs from itself" in found.rows[0].why
    assert found.rows[0].noise.mean == pytest.approx(0.03)


def test_pictures_count_from_the_picture_on_and_without_it():
    prompts = questions("image", 4)
    head = (1, 2, IMAGE, IMAGE, IMAGE)
    reference = answers(prompts, head=head)
    found = list(reference)
    for number, one in enumerate(reference):
        logprobs = (
            one.logprobs[0] - 9,
            one.logprobs[1] - 9,
            *(value - 9 for value in one.logprobs[2:5]),
            *one.logprobs[5:],
        )
        found[number] = PromptLogprobs(one.tokens, logprobs, one.most_likely)
    row = compare(prompts, reference, [reference], found, placeholders=PLACEHOLDERS).rows[0]
    assert row.apart.positions == 4 * 40
    assert row.apart.mean == 0
    counted = compare(prompts, reference, [reference], found, placeholders=frozenset()).rows[0]
    assert counted.state == "fail"


def test_other_tokens_are_another_question():
    prompts = questions("text", 2)
    reference, found = answers(prompts), answers(prompts)
    changed = (found[1].tokens[0], found[1].tokens[1] + 1, *found[1].tokens[2:])
    found[1] = PromptLogprobs(changed, found[1].logprobs, found[1].most_likely)
    with pytest.raises(EngineError, match=r"text 1.*from position 2 on"):
        compare(prompts, reference, [reference], found, placeholders=PLACEHOLDERS)
    short = [PromptLogprobs(one.tokens[:-1], one.logprobs[:-1], one.most_likely[:-1]) for one in reference]
    with pytest.raises(EngineError, match="39 tokens"):
        compare(prompts, reference, [reference], short, placeholders=PLACEHOLDERS)


def test_nothing_to_compare_is_refused():
    prompts = questions("text", 2)
    with pytest.raises(InvalidRequest, match="2, 2, 2, 1, 2 answers"):
        compare(prompts, answers(prompts), [answers(prompts)], answers(prompts)[:1], placeholders=PLACEHOLDERS)
    with pytest.raises(InvalidRequest):
        compare([], [], [[]], [], placeholders=PLACEHOLDERS)
    with pytest.raises(InvalidRequest, match="from the reference twice"):
        compare(prompts, answers(prompts), [], answers(prompts), placeholders=PLACEHOLDERS)


def test_noise_is_that_of_all_repeats():
    prompts = questions("text", 4)
    repeats = [answers(prompts, off=0.01, wrong=1), answers(prompts, off=0.03, wrong=3)]
    row = compare(prompts, answers(prompts), repeats, answers(prompts), placeholders=PLACEHOLDERS).rows[0]
    assert (row.noise.prompts, row.noise.positions) == (4, 2 * 4 * 40)
    assert (row.noise.mean, row.noise.top1) == (pytest.approx(0.02), pytest.approx(38 / 40))


def test_each_row_is_judged_by_what_the_effect_costs_there():
    """0.08 on average to text, 0.04 to pictures: 0.06 of another effect besides is too much for one of them."""
    texts, pictures = questions("text", 40), questions("image", 40)
    base, start = answers(texts), answers(pictures)
    reference = [*moved(base, (0.1, "rounding")), *moved(start, (0.05, "rounding"))]
    found = [*moved(base, (0.1, "rounding"), (0.075, "own")), *moved(start, (0.05, "rounding"), (0.075, "own"))]
    judged = compare(
        [*texts, *pictures], reference, [reference], found, base=[*base, *start], placeholders=PLACEHOLDERS
    )
    costs = [row.bounds.mean for row in judged.rows]
    assert costs == pytest.approx([0.08, 0.04, 0.06], rel=0.05)
    assert [row.state for row in judged.rows] == ["pass", "fail", "pass"]
    assert f"at most {costs[1]:.3g} and 0.5 in common" in judged.verdict.why
    assert f"at most {costs[1]:.3g} and 0.5 in common" in judged.findings[0].expected


def test_a_mean_as_large_as_a_fault_says_nothing_however_wide_its_bound():
    prompts = questions("text", 4)
    found = judged(prompts, answers(prompts, off=0.31), bounds=Bounds(mean=0.4, fault=0.3)).rows[0]
    assert (found.state, found.why) == ("not checked", "0.31 cannot be told from a fault of 0.3")


def test_bounds_of_quantized_inputs_follow_from_their_cost():
    assert input_bounds(0.01).mean == MOST_MEAN, "never narrower than for weights"
    bounds = input_bounds(0.2)
    assert (bounds.mean, bounds.top1, bounds.in_common) == (0.2, 0.0, LEAST_IN_COMMON)
    for broken in (math.inf, math.nan):
        assert input_bounds(broken).mean == MOST_MEAN, "NaN is near nothing"


def moved(answers, *effects):
    """The answers, each log-probability moved by the sum of the effects: (size, seed) each, drawn by position."""
    found = []
    for number, one in enumerate(answers):
        draws = [(size, random.Random(f"{seed} {number}")) for size, seed in effects]
        logprobs = tuple(value + sum(size * draw.gauss(0, 1) for size, draw in draws) for value in one.logprobs)
        found.append(PromptLogprobs(one.tokens, logprobs, one.most_likely))
    return found


WIDE = Bounds(1.0, 0.0, math.inf)


def based(found, repeats=None):
    """Of 60 prompts, `found` against a reference that moved its base by 0.1 on average: row of all."""
    prompts = questions("text", 60)
    base = answers(prompts)
    reference = moved(base, (0.1, "rounding"))
    return compare(
        prompts, reference, repeats or [reference], found(base), base=base, placeholders=PLACEHOLDERS, bounds=WIDE
    )


def test_what_a_base_became_in_common_is_a_share_of_its_variance():
    for own, share in ((0.05, 0.8), (0.1, 0.5), (0.2, 0.2)):
        row = based(lambda base, own=own: moved(base, (0.1, "rounding"), (own, "its own"))).rows[-1]
        assert row.apart.in_common == pytest.approx(math.sqrt(share), abs=0.03), "the reference is all common part"
        reference = moved(answers(questions("text", 60)), (0.1, "rounding"), (own, "another"))
        both = based(lambda base, own=own: moved(base, (0.1, "rounding"), (own, "its own")), [reference]).rows[-1]
        assert both.noise.in_common == pytest.approx(math.sqrt(share), abs=0.03)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("left alone", lambda base: base),
        ("another rounding", lambda base: moved(base, (0.1, "other"))),
        ("little of it", lambda base: moved(base, (0.03, "rounding"), (0.1, "other"))),
        ("the reverse", lambda base: moved(base, (-0.1, "rounding"))),
        ("no number", lambda base: moved(base, (math.nan, "rounding"))),
    ],
)
def test_a_rounding_that_is_not_the_references_fails(name, found):
    compared = based(found)
    assert compared.verdict.state == "fail", name
    if name != "no number":
        assert "of the rounding in common" in compared.verdict.why
        assert compared.verdict.why.endswith("and 0.5 in common")
        assert "the reference against itself: mean |delta log p| 0" in compared.findings[0].expected


def test_the_same_rounding_passes_and_a_reference_that_has_little_in_common_with_itself_cannot_judge():
    def same(base):
        return moved(base, (0.1, "rounding"), (0.05, "its own"))

    assert based(same).verdict.state == "pass"
    noisy = moved(answers(questions("text", 60)), (0.02, "rounding"), (0.1, "noise"))
    found = based(same, [noisy])
    assert found.verdict.state == "not checked"
    assert re.search(r"the reference has 0\.\d\d in common with itself: less than the bound of 0\.5", found.verdict.why)


def test_placeholders_are_those_of_the_config():
    thinker = {"image_token_id": 5, "audio_token_id": 7, "video_token_id": None}
    assert placeholder_ids({"thinker_config": thinker}) == {5, 7}
    assert placeholder_ids({}) == placeholder_ids({"thinker_config": 3}) == frozenset()
