"""Spoken answers, without a model: whom to ask, codes and waveforms beside each other, one row over all codebooks."""

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


def test_modalities_take_turns():
    text, image, audio = (
        [target(f"{letter}{number}", *media) for number in range(count)]
        for letter, media, count in (("t", (), 9), ("i", ("image",), 2), ("a", ("audio",), 4))
    )
    turns = ["t0", "i0", "a0", "t1", "i1", "a1", "t2", "a2", "t3"]
    assert names(speech._spread([*text, *image, *audio]))[:9] == turns
    assert names(speech._spread([*audio, *text[:2]])) == ["t0", "a0", "t1", "a1", "a2", "a3"]
    assert speech._spread([]) == []


def test_never_more_than_so_many():
    assert len(speech._spread([target(f"t{number}") for number in range(40)])) == speech.MOST_SPOKEN


def test_pictures_and_sound_at_once_are_not_spoken_to():
    asked = [target("both", "image", "audio"), target("picture", "image"), target("sound", "audio"), target("words")]
    original = engine({name: said(name) for name in names(asked)})
    found = speech.speak(original, asked, no_progress)
    assert [each.answer.text for each in found] == ["words", "picture", "sound"]
    assert [each.modality for each in found] == ["text", "image", "audio"]
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


def test_one_row_over_all_codebooks_has_their_mean():
    """Vocabularies differ in size; padding says nothing."""
    mine, theirs = [books(1), books(2, frames=2)], [books(3), books(4, frames=2)]
    each = speech.per_codebook(mine, theirs)
    whole = divergence(speech.flattened(mine), speech.flattened(theirs))
    assert whole.conversations == 2
    assert whole.tokens == sum(one.tokens for one in each) == 12
    assert whole.mean == pytest.approx(sum(one.mean * one.tokens for one in each) / 12)


def test_codes_lie_in_the_order_of_their_log_probabilities():
    likely = tuple(np.log(np.eye(9, dtype=np.float32)[row] * 0.9 + 0.01) for row in CODES)
    spoken = [Spoken(target("a"), said("a").answer)]
    (values,), (codes,) = speech.flattened([likely]), speech.flat_codes(spoken)
    assert codes.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert values.argmax(-1).tolist() == codes.tolist()


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


def test_pictures_are_of_the_first_sample_over_the_same_seconds():
    spoken = [Spoken(target("a"), said("a").answer), Spoken(target("c", "audio"), said("c", wave=WAVE[:100]).answer)]
    other = engine({"a": said("A", wave=WAVE[:2000]), "c": said("c")})
    found = speech.speech_agreement("bf16", other, spoken, ())
    assert found.spectrogram_seconds == pytest.approx(4 * 1920 / 24_000)
    original, quantized = found.spectrograms["original"], found.spectrograms["quantized"]
    assert [len(row) for row in original] == [len(row) for row in quantized]
    assert original[0][-1] > FLOOR
    assert quantized[0][-1] == FLOOR
