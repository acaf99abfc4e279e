"""Spoken answers, without a model: whom to ask, codes and waveforms beside each other, a row for each of two stages."""

import math

import numpy as np
import pytest

from pytest_q3omni.engines.answers import Answer
from pytest_q3omni.engines.fake import FakeEngine, Scripted
from pytest_q3omni.omni.conversations import Conversation
from pytest_q3omni.parity import speech
from pytest_q3omni.parity.divergence import divergence
from pytest_q3omni.parity.logits import Target
from pytest_q3omni.parity.spectrogram import FLOOR
from pytest_q3omni.parity.speech import Spoken
from pytest_q3omni.records import no_progress

pytestmark = pytest.mark.tiny

SCIPY = "needs the quantize extra: pip install pytest-q3omni[quantize]"
CODES = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
WAVE = np.full(4 * 1920, 0.25, np.float32)


def target(text, *media, tokens=(3, 1)):
    parts = ({"type": "text", "text": text}, *({"type": kind, kind: b""} for kind in media))
    return Target(Conversation(f"file:{text}", ({"role": "user", "content": parts},)), tokens)


def books(seed, frames=4, sizes=(6, 3)):
    """Log-probabilities of one answer's codes, per codebook."""
    random = np.random.default_rng(seed)
    return tuple(np.log(random.dirichlet(np.ones(size), size=frames)).astype(np.float32) for size in sizes)


def said(text, codes=CODES, wave=WAVE, tokens=(3, 1), seed=0):
    frames = 0 if codes is None else codes.shape[1]
    return Scripted(Answer(text, tokens, wave, codes), np.zeros((len(tokens), 5), np.float32), books(seed, frames))


def engine(script, numerics="bf16"):
    return FakeEngine("somewhere", {numerics: script})


# --- whom to ask


def names(targets):
    return [each.conversation.id.removeprefix("file:") for each in targets]


def test_pictures_and_sound_take_turns_before_text_alone():
    text, image, audio = (
        [target(f"{letter}{number}", *media) for number in range(count)]
        for letter, media, count in (("t", (), 9), ("i", ("image",), 2), ("a", ("audio",), 4))
    )
    turns = ["i0", "a0", "i1", "a1", "a2", "a3", *(f"t{number}" for number in range(9))]
    assert names(speech._spread([*text, *image, *audio])) == turns[: speech.MOST_SPOKEN]
    assert names(speech._spread([*text[:2], *audio])) == ["a0", "a1", "a2", "a3", "t0", "t1"]
    assert names(speech._spread(image)) == ["i0", "i1"]
    assert speech._spread([]) == []


def test_never_more_than_so_many():
    assert len(speech._spread([target(f"t{number}") for number in range(40)])) == speech.MOST_SPOKEN


def test_pictures_and_sound_at_once_are_not_spoken_to():
    asked = [target("both", "image", "audio"), target("picture", "image"), target("sound", "audio"), target("words")]
    original = engine({name: said(name) for name in names(asked)})
    found = speech.speak(original, asked, no_progress)
    assert [each.answer.text for each in found] == ["picture", "sound", "words"]
    assert [each.modality for each in found] == ["image", "audio", "text"]
    assert "both" not in {call.question for call in original.log}


def test_answers_without_a_frame_are_left_out():
    script = {"a": said("a"), "b": said("b", codes=CODES[:, :0]), "c": said("c", codes=None, wave=None)}
    assert [each.answer.text for each in speech.speak(engine(script), [*map(target, "abc")], no_progress)] == ["a"]


def test_an_answer_of_one_token_is_not_spoken_but_shown():
    """transformers cannot speak an end of turn alone, all that a broken checkpoint may say: a difference, no error."""
    mute = engine({"a": said("", tokens=(2,))})
    assert speech.speak(mute, [target("a")], no_progress) == []
    assert [call.what for call in mute.log] == ["open", "generate"]
    spoken = [Spoken(target("a"), said("hello").answer)]
    (sample,) = speech.speech_agreement("w4a16", mute, spoken, ()).samples
    assert (sample.text, sample.frames, sample.equal_codes) == (("hello", ""), (4, 0), 0.0)
    assert sample.snr == pytest.approx(0.0), "silence is as far from the original as the original is loud"


# --- codes and waveforms


@pytest.mark.parametrize(
    ("theirs", "share"),
    [
        (CODES, 1.0),
        ([[1, 2, 3, 9], [5, 6, 7, 9]], 6 / 8),
        ([[1, 9, 3, 4], [5, 6, 7, 8]], 7 / 8),
        ([[1, 2], [5, 6]], 4 / 8),  # over the longer one
        ([[1, 2, 3, 4, 0, 0], [5, 6, 7, 8, 0, 0]], 8 / 12),
        ([[2, 3, 4, 5], [6, 7, 8, 9]], 0.0),  # a frame late
        (None, 0.0),
    ],
)
def test_equal_codes_are_a_share_of_the_longer_answer(theirs, share):
    theirs = None if theirs is None else np.array(theirs)
    assert speech._equal_codes(CODES, theirs) == pytest.approx(share)
    assert speech._equal_codes(theirs, CODES) == pytest.approx(share)


@pytest.mark.parametrize(
    ("mine", "theirs", "decibels"),
    [
        ([1, 1], [0.9, 0.9], 20.0),  # power 2 over power 0.02
        ([2, 0, 0, 0], [2, 0, 0, 0.02], 40.0),
        ([1, 1], [0, 0], 0.0),
        ([1, -1], [-1, 1], -20 * math.log10(2)),  # upside down: twice the amplitude
        ([3, 4], [3, 4, 0.5], 20.0),  # 25 over 0.25: the shorter one ends in silence
        ([3, 4, 0.5], [3, 4], 10 * math.log10(25.25 / 0.25)),
        ([1, 1], None, 0.0),
    ],
)
def test_noise_in_decibels(mine, theirs, decibels):
    waves = (None if each is None else np.array(each, np.float32) for each in (mine, theirs))
    assert speech._snr(*waves) == pytest.approx(decibels, abs=1e-4)


def test_equal_waveforms_have_no_noise():
    assert speech._snr(WAVE, WAVE.copy()) is None
    assert speech._snr(WAVE[:5], np.concatenate([WAVE[:5], np.zeros(3, np.float32)])) is None
    assert speech._snr(None, None) is None
    assert speech._snr(np.zeros(3, np.float32), WAVE) < -1000, "a silent original has a number, too"


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_waveform_of_no_numbers_is_silent_and_not_equal(broken):
    assert speech._snr(WAVE, np.full_like(WAVE, broken)) == pytest.approx(0.0)


# --- what one model gives to the other's codes


def test_codebooks_are_measured_apart():
    mine, theirs = [books(1), books(2)], [books(3), books(4)]
    first, second = speech.per_codebook(mine, theirs)
    assert first == divergence([mine[0][0], mine[1][0]], [theirs[0][0], theirs[1][0]])
    assert second == divergence([mine[0][1], mine[1][1]], [theirs[0][1], theirs[1][1]])
    assert first.tokens == 8


SIZES = (9, 12, 10)
THREE = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [9, 8, 7, 6]])


def three(seed, noise, frames=4):
    """Log-probabilities of `THREE`, per codebook: each code is the likeliest; the same give or take `noise`."""
    random = np.random.default_rng(seed)
    logits = [9 * np.eye(size)[codes[:frames]] for size, codes in zip(SIZES, THREE, strict=True)]
    logits = [values + noise * random.normal(size=values.shape) for values in logits]
    return tuple((each - np.log(np.exp(each).sum(-1, keepdims=True))).astype(np.float32) for each in logits)


def sides(frames=(4, 3)):
    """Two spoken answers, and what the four models give to their codes."""
    spoken = [
        Spoken(target(name), said(name, codes=THREE[:, :count]).answer)
        for name, count in zip("ab", frames, strict=True)
    ]
    noises = (0.0, 0.001, 0.1, 0.1)
    return spoken, [
        [three(9 * n + k, noise, count) for n, count in enumerate(frames)] for k, noise in enumerate(noises)
    ]


def test_the_talker_and_the_code_predictor_have_a_row_each():
    """Vocabularies differ in size; padding says nothing."""
    pytest.importorskip("scipy", reason=SCIPY)
    spoken, models = sides()
    talker, predictor = speech.speech_agreements("w4a4", spoken, *models)
    assert [(row.modality, row.numerics) for row in (talker, predictor)] == [
        ("talker", "w4a4"),
        ("code_predictor", "w4a4"),
    ]
    original, repeat, plain, quantized = models
    first, *others = speech.per_codebook(original, quantized)
    assert talker.divergence == first
    assert talker.plain == speech.per_codebook(original, plain)[0]
    assert talker.repeat == speech.per_codebook(original, repeat)[0]
    assert talker.apart == speech.per_codebook(plain, quantized)[0]
    assert (predictor.divergence.conversations, predictor.divergence.tokens) == (2, 14)
    assert predictor.divergence.mean == pytest.approx(sum(one.mean * one.tokens for one in others) / 14)
    for row in (talker, predictor):
        assert row.accuracy == row.original_accuracy == row.plain_accuracy == 1.0, "codes in the order of their values"


@pytest.mark.parametrize(("stage", "number"), [("talker", 0), ("code_predictor", 2)])
def test_a_fault_in_one_codebook_fails_in_the_row_of_its_stage_alone(stage, number):
    pytest.importorskip("scipy", reason=SCIPY)
    spoken, models = sides()
    for answer in range(2):
        values = list(models[3][answer])
        values[number] = values[number][:, ::-1].copy()
        models[3][answer] = tuple(values)
    states = {row.modality: row.state for row in speech.speech_agreements("w4a16", spoken, *models)}
    assert [name for name, state in states.items() if state == "fail"] == [stage]


def test_answers_that_nothing_packed_reaches_are_left_out_of_the_rows():
    pytest.importorskip("scipy", reason=SCIPY)
    spoken, (original, repeat, plain, quantized) = sides()
    plain[0] = original[0]
    models = (original, repeat, plain, quantized)
    for row in speech.speech_agreements("w4a4", spoken, *models):
        assert (row.divergence.conversations, row.accuracy) == (1, 1.0)
    talker, predictor = speech.speech_agreements("w4a4", spoken, *models)
    assert talker.divergence == divergence([original[1][0]], [quantized[1][0]])
    assert predictor.divergence.tokens == 6
    plain[0] = (*original[0][:2], three(5, 0.1)[2])
    talker, predictor = speech.speech_agreements("w4a4", spoken, *models)
    assert (talker.divergence.conversations, predictor.divergence.conversations) == (1, 2), "each stage by itself"


def test_where_nothing_packed_reaches_an_answer_there_is_no_row():
    pytest.importorskip("scipy", reason=SCIPY)
    spoken, (original, repeat, _, quantized) = sides()
    assert speech.speech_agreements("w4a4", spoken, original, repeat, original, quantized) == []


def test_every_model_is_forced_to_the_originals_codes(monkeypatch):
    spoken = [Spoken(target("a"), said("a").answer), Spoken(target("b"), said("b", codes=CODES[:, :3]).answer)]
    other = engine({"a": said("x", seed=1), "b": said("y", seed=2)}, "w4a4")
    told: list[tuple[str, int, int]] = []
    given, ask = [], other.speech_logprobs
    monkeypatch.setattr(other, "speech_logprobs", lambda *asked: given.append(asked) or ask(*asked))
    first, second = speech.force(other, spoken, "W4A4 speech", lambda *step: told.append(step))
    assert [len(values) for values in first] == [4, 4]
    assert [len(values) for values in second] == [3, 3]
    assert np.array_equal(first[1], books(1)[1])
    assert [call.what for call in other.log] == ["open", "speech_logprobs", "speech_logprobs"]
    assert [tokens for _, tokens, _ in given] == [(3, 1), (3, 1)]
    assert [codes.tolist() for *_, codes in given] == [CODES.tolist(), CODES[:, :3].tolist()]
    assert told == [("W4A4 speech", 0, 2), ("W4A4 speech", 1, 2), ("W4A4 speech", 2, 2)]


# --- samples


def test_the_first_answer_of_each_modality_is_spoken_by_both():
    asked = [target("a"), target("b"), target("c", "audio")]
    spoken = [Spoken(each, said(name).answer) for each, name in zip(asked, "abc", strict=True)]
    other = engine({"a": said("A", codes=CODES[:, :2], wave=WAVE[: 2 * 1920]), "c": said("c")}, "w4a16")
    found = speech.speech_agreement("w4a16", other, spoken, ())
    assert [(sample.modality, sample.conversation) for sample in found.samples] == [
        ("text", "file:a"),
        ("audio", "file:c"),
    ]
    first, second = found.samples
    assert (first.text, first.frames, first.equal_codes) == (("a", "A"), (4, 2), 0.5)
    assert first.snr == pytest.approx(10 * math.log10(2), abs=1e-4)
    assert (second.text, second.equal_codes, second.snr) == (("c", "c"), 1.0, None)


def test_the_vocoder_is_given_the_originals_codes_whatever_it_says_itself():
    spoken = [Spoken(target("a"), said("a").answer)]
    script = {"w4a16": {"a": said("A", codes=CODES[:, ::-1].copy(), wave=-WAVE)}}
    given = []
    other = FakeEngine("somewhere", script, vocoder=lambda codes: given.append(codes) or WAVE * np.float32(0.9))
    (sample,) = speech.speech_agreement("w4a16", other, spoken, ()).samples
    assert [codes.tolist() for codes in given] == [CODES.tolist()]
    assert sample.vocoder_snr == pytest.approx(20.0, abs=1e-4)
    assert sample.snr == pytest.approx(-20 * math.log10(2), abs=1e-4)
    same = FakeEngine("somewhere", script, vocoder=lambda codes: WAVE)
    (sample,) = speech.speech_agreement("w4a16", same, spoken, ()).samples
    assert (sample.vocoder_snr, sample.snr) == (None, pytest.approx(-20 * math.log10(2), abs=1e-4))


def test_pictures_are_of_the_first_sample_over_the_same_seconds():
    spoken = [Spoken(target("a"), said("a").answer), Spoken(target("c", "audio"), said("c", wave=WAVE[:100]).answer)]
    other = engine({"a": said("A", wave=WAVE[:2000]), "c": said("c")})
    found = speech.speech_agreement("bf16", other, spoken, ())
    assert found.spectrogram_seconds == pytest.approx(4 * 1920 / 24_000)
    original, quantized = found.spectrograms["original"], found.spectrograms["quantized"]
    assert [len(row) for row in original] == [len(row) for row in quantized]
    assert original[0][-1] > FLOOR
    assert quantized[0][-1] == FLOOR
