"""Which tokens are asked about, and under which modality they count."""

import numpy as np
import pytest

from pytest_q3omni.engines.answers import Answer
from pytest_q3omni.engines.fake import FakeEngine, Scripted
from pytest_q3omni.errors import EngineError
from pytest_q3omni.omni.conversations import Conversation
from pytest_q3omni.parity.logits import MAX_NEW_TOKENS, Answers, Target, agreement, ask, find_targets
from pytest_q3omni.records import no_progress

pytestmark = pytest.mark.tiny


def conversation(text, *media, answer=None):
    parts = ({"type": "text", "text": text}, *({"type": kind, kind: b""} for kind in media))
    last = () if answer is None else ({"role": "assistant", "content": ({"type": "text", "text": answer},)},)
    return Conversation(f"file:{text}", ({"role": "user", "content": parts}, *last))


def engine(**script):
    said = {
        name: Scripted(Answer(name, tokens), np.zeros((len(tokens), 9), np.float32)) for name, tokens in script.items()
    }
    return FakeEngine("somewhere", {"bf16": said})


@pytest.mark.parametrize(
    ("media", "modalities"),
    [((), ["text"]), (("image",), ["image"]), (("audio",), ["audio"]), (("image", "audio"), ["image", "audio"])],
)
def test_text_is_text_alone(media, modalities):
    target = Target(conversation("a", *media), (1,))
    assert [name for name in ("text", "image", "audio") if target.belongs_to(name)] == modalities


def test_a_picture_without_a_word_is_a_picture():
    wordless = Conversation("a", ({"role": "user", "content": ({"type": "image", "image": b""},)},))
    assert Target(wordless, (1,)).belongs_to("image")


def test_a_conversations_own_answer_is_asked_about_otherwise_the_originals():
    asked = [conversation("open"), conversation("closed", answer="of mine")]
    original = engine(open=(1, 2), closed=(3, 4, 5))
    told: list[tuple[str, int, int]] = []
    targets = find_targets(original, asked, lambda *step: told.append(step))
    assert [target.tokens for target in targets] == [(1, 2), (3, 4, 5)]
    assert [call.what for call in original.log] == ["open", "generate", "logprobs"]
    assert all(not target.conversation.answered for target in targets), "the answer is no part of the question"
    assert told == [("questions", 0, 2), ("questions", 1, 2), ("questions", 2, 2)]


def test_a_question_that_comes_again_counts_once():
    asked = [conversation("a"), conversation("b"), conversation("a"), conversation("a", answer="of mine")]
    original = engine(a=(1, 2), b=(3,))
    targets = find_targets(original, asked, no_progress)
    assert [target.tokens for target in targets] == [(1, 2), (3,)]
    assert [call.question for call in original.log if call.what != "open"] == ["a", "b"]
    pictured = find_targets(original, [conversation("a"), conversation("a", "image")], no_progress)
    assert [target.belongs_to("text") for target in pictured] == [True, False], "another question"


def test_a_long_answer_is_cut():
    (target,) = find_targets(engine(a=tuple(range(200))), [conversation("a")], no_progress)
    assert target.tokens == tuple(range(MAX_NEW_TOKENS))


def test_every_model_is_asked_about_the_same_tokens():
    other = engine(a=(7,) * 5, b=(8,) * 5)
    told: list[tuple[str, int, int]] = []
    targets = [Target(conversation("a"), (1, 2)), Target(conversation("b"), (3, 4, 5))]
    assert [len(values) for values in ask(other, targets, "W4A16", lambda *step: told.append(step))] == [2, 3]
    assert told[-1] == ("W4A16", 2, 2)


def test_answers_of_some_targets_are_picked_from_every_side():
    sides = [[np.array([side * 10 + number]) for number in range(3)] for side in range(4)]
    picked = Answers(*sides).chosen(number for number in (0, 2))
    assert [picked.original, picked.repeat, picked.plain, picked.quantized] == [
        [side * 10, side * 10 + 2] for side in range(4)
    ]


# --- a row

SIDES = ("original", "repeat", "plain", "quantized")


def sides(**broken):
    """Two answers of three tokens by the four models, near each other; a broken one has these log-probabilities."""
    random = np.random.default_rng(1)
    likely = random.normal(size=(2, 3, 5))

    def near(noise):
        logits = likely + noise * random.normal(size=likely.shape)
        return list((logits - np.log(np.exp(logits).sum(-1, keepdims=True))).astype(np.float32))

    made = {name: near(noise) for name, noise in zip(SIDES, (0.0, 0.001, 0.1, 0.1), strict=True)}
    for name, value in broken.items():
        made[name][1][2] = value
    return Answers(*(made[name] for name in SIDES))


TOKENS = [(0, 1, 2), (3, 4, 0)]


def test_a_checkpoint_that_computes_nan_is_a_failed_row():
    pytest.importorskip("scipy", reason="needs the quantize extra: pip install pytest-q3omni[quantize]")
    assert agreement("audio", "w4a4", sides(), TOKENS).state != "fail"
    row = agreement("audio", "w4a4", sides(quantized=np.nan), TOKENS)
    assert (row.state, row.divergence.mean, row.apart.mean) == ("fail", np.inf, np.inf)
    assert np.isfinite([row.plain.mean, row.repeat.mean, row.limit]).all()
    alone = sides(quantized=np.nan).chosen([1])
    assert agreement("audio", "w4a4", alone, TOKENS[1:]).state == "fail", "one conversation has no limit"


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        ("plain", "audio answers in W4A4: plain NVFP4 of the original computes NaN"),
        ("repeat", "audio answers in W4A4: BF16 with eager attention of the original computes NaN"),
        ("original", "the original: NaN in its log-probabilities"),
    ],
)
def test_a_reference_that_computes_nan_is_an_error(broken, found):
    with pytest.raises(EngineError, match=f"^{found}; expected finite .*Fix: check the original"):
        agreement("audio", "w4a4", sides(**{broken: np.nan}), TOKENS)


def test_findings_call_a_row_by_modality_and_numerics():
    pytest.importorskip("scipy", reason="needs the quantize extra: pip install pytest-q3omni[quantize]")
    assert agreement("code_predictor", "w4a16", sides(), TOKENS).where == "code_predictor answers in W4A16"
