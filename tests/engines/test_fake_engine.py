"""The fake engine keeps the contract of `engines/_protocol.py`, and refuses what a real one refuses."""

import inspect

import numpy as np
import pytest

from pytest_q3omni.engines._protocol import Engine
from pytest_q3omni.engines.answers import Answer
from pytest_q3omni.engines.fake import Call, FakeEngine, Scripted
from pytest_q3omni.engines.handle import ModelHandle
from pytest_q3omni.errors import EngineError, InvalidRequest, NotChatML
from pytest_q3omni.omni.conversations import Conversation

pytestmark = pytest.mark.tiny

HELLO = [{"role": "user", "content": "Hello"}]
VALUES = np.log(np.full((3, 5), 0.2, dtype=np.float32))
BOOKS = tuple(np.log(np.full((4, size), 1 / size, dtype=np.float32)) for size in (6, 3))
CODES = np.arange(8, dtype=np.int64).reshape(2, 4)
WAVE = np.ones(9, np.float32)
SAID = Scripted(Answer("Hi there", (3, 1, 4), WAVE, CODES), VALUES, BOOKS)


@pytest.fixture
def engine():
    return FakeEngine("somewhere", {"bf16": {"Hello": SAID}}, size=7)


@pytest.mark.parametrize("kind", [FakeEngine, ModelHandle])
def test_methods_are_those_of_the_protocol(kind):
    methods = {name for name, member in vars(Engine).items() if inspect.isfunction(member) and name[0] != "_"}
    assert methods >= {"loaded", "generate", "logprobs", "speech_logprobs", "sound", "memory_bytes", "close"}
    for name in methods:
        mine, wanted = (inspect.signature(getattr(each, name)).parameters for each in (kind, Engine))
        assert mine == wanted, name


def test_it_says_what_is_scripted(engine):
    assert engine.generate(HELLO) == Answer("Hi there", (3, 1, 4)), "nobody asked for speech"
    assert engine.generate(HELLO, max_new_tokens=2).tokens == (3, 1)
    spoken = engine.generate(HELLO, speech=True)
    assert (spoken.codes is CODES, len(spoken.waveform)) == (True, 9)


def test_a_question_is_what_the_user_says_last(engine):
    asked = [{"role": "user", "content": "Well"}, {"role": "assistant", "content": "?"}, *HELLO]
    assert engine.generate([*asked, {"role": "assistant", "content": "Hi"}]).text == "Hi there"
    parts = ({"type": "image", "image": b"png"}, {"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"})
    assert engine.generate(Conversation("file:1", ({"role": "user", "content": parts},))).text == "Hi there"
    assert engine.generate("Hello").text == "Hi there", "a prompt as it is"
    with pytest.raises(NotChatML, match="the role 'human'"):
        engine.generate([{"role": "human", "content": "Hello"}])


def test_log_probabilities_are_of_the_tokens_that_are_asked_about(engine):
    found = engine.logprobs(HELLO, [0, 4])
    assert (found.tokens.tolist(), found.tokens.dtype) == ([0, 4], np.int64)
    assert np.array_equal(found.values, VALUES[:2])
    assert engine.logprobs(HELLO).tokens.tolist() == [3, 1, 4]
    assert engine.logprobs(HELLO).of_answer == pytest.approx([np.log(0.2)] * 3)


def test_log_probabilities_of_speech_are_cut_to_its_frames(engine):
    found = engine.speech_logprobs(HELLO, (3, 1), CODES[:, :2])
    assert [values.shape for values in found.values] == [(2, 6), (2, 3)]
    assert np.array_equal(found.codes, CODES[:, :2])
    assert [values.shape for values in engine.speech_logprobs(HELLO, (3, 1), CODES[:1]).values] == [(4, 6)]


def test_the_sound_of_codes_is_that_of_the_answer_that_has_them(engine):
    assert engine.sound(CODES) is SAID.answer.waveform
    other = engine.sound(CODES[:, ::-1])
    assert (other.shape, other.dtype, other.any()) == ((4 * 1920,), np.float32, False)
    assert engine.sound(CODES[:, :3]).shape == (3 * 1920,), "silence, 80 ms a frame"
    for answer in (Answer("Hi", (3, 1)), Answer("Hi", (3, 1), None, CODES), Answer("Hi", (3, 1), WAVE)):
        silent = FakeEngine("somewhere", {"bf16": {"Hello": Scripted(answer, VALUES)}})
        assert silent.sound(CODES).tolist() == [0.0] * 4 * 1920, "no answer has both"


def test_the_sound_of_codes_is_in_the_numerics_that_it_runs_in():
    other = Scripted(Answer("Hi", (3, 1), np.full(5, 0.5, np.float32), CODES), VALUES, BOOKS)
    engine = FakeEngine("somewhere", {"w4a4": {"Hello": SAID}, "w4a16": {"Hello": other}})
    assert engine.sound(CODES) is SAID.answer.waveform
    engine.numerics = "w4a16"
    assert engine.sound(CODES) is other.answer.waveform


def test_a_vocoder_makes_the_sound_of_any_codes():
    given = []
    wave = np.full(7, 0.5, np.float32)
    engine = FakeEngine("somewhere", {"bf16": {"Hello": SAID}}, vocoder=lambda codes: given.append(codes) or wave)
    assert engine.sound(CODES.tolist()) is wave
    (codes,) = given
    assert (codes.tolist(), codes.dtype) == (CODES.tolist(), np.int64)
    assert engine.memory_bytes() == 1, "it opens for it"


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (lambda it: it.generate("What?"), "nothing is scripted for 'What[?]' in bf16; expected one of 'Hello'"),
        (lambda it: it.logprobs(HELLO, range(4)), "log-probabilities of 3 tokens are scripted; expected 4, as asked"),
        (lambda it: it.speech_logprobs(HELLO, (1, 2), np.zeros((2, 5))), "of 4 frames are scripted; expected 5"),
        (lambda it: it.speech_logprobs(HELLO, (1, 2), np.zeros((3, 4))), "of 2 codebooks are scripted; expected 3"),
        (lambda it: it.generate(HELLO, speech=True, max_new_tokens=1), "speech of an answer of 1 tokens"),
    ],
)
def test_what_is_not_in_the_script_is_refused(engine, asked, found):
    with pytest.raises(InvalidRequest, match=found):
        asked(engine)


def test_nobody_speaks_to_sound_and_pictures_at_once(engine):
    parts = ({"type": "image", "image": b""}, {"type": "audio", "audio": b""}, {"type": "text", "text": "Hello"})
    both = Conversation("file:1", ({"role": "user", "content": parts},))
    for ask in (lambda: engine.generate(both, speech=True), lambda: engine.speech_logprobs(both, (1, 2), CODES)):
        with pytest.raises(EngineError, match="sound and pictures in one conversation"):
            ask()
    assert engine.log == [], "a model is not opened for it"


def test_a_fake_that_does_not_speak_refuses_to():
    silent = FakeEngine("somewhere", {"w4a16": {"Hello": SAID}}, speaks=False)
    assert (silent.speaks, silent.numerics) == (False, "w4a16")
    assert silent.generate(HELLO).text == "Hi there"
    silent.close()
    ways = (
        lambda: silent.generate(HELLO, speech=True),
        lambda: silent.speech_logprobs(HELLO, (1, 2), CODES),
        lambda: silent.sound(CODES),
        lambda: silent.loaded(speech=True).__enter__(),
    )
    for ask in ways:
        with pytest.raises(InvalidRequest, match="speech of a fake that does not speak"):
            ask()
    assert silent.memory_bytes() == 0, "nothing opened"


def test_it_opens_when_asked_and_stays_open_until_it_is_closed(engine):
    assert engine.memory_bytes() == 0
    with engine.loaded() as model:
        assert (model, engine.memory_bytes()) == (engine, 7)
        engine.generate(HELLO)
        with pytest.raises(InvalidRequest, match="the model is in use"):
            engine.close()
    engine.close()
    engine.close()
    assert engine.memory_bytes() == 0
    engine.logprobs(HELLO)
    assert engine.memory_bytes() == 7
    whats = ["open", "generate", "close", "open", "logprobs"]
    assert [call.what for call in engine.log] == whats


def test_fakes_share_a_log_and_may_change_their_numerics():
    log: list[Call] = []
    other = Scripted(Answer("Hi", (1, 2)), VALUES)
    first = FakeEngine("first", {"w4a4": {"Hello": SAID}, "w4a16": {"Hello": other}}, amax={"a": 2.5}, log=log)
    second = FakeEngine("second", {"bf16": {"Hello": SAID}}, log=log)
    assert first.numerics == "w4a4"
    assert first.generate(HELLO).text == "Hi there"
    second.generate(HELLO, speech=True)
    first.numerics = "w4a16"
    assert first.generate(HELLO).text == "Hi"
    assert first.input_amax() == {"a": 2.5}
    assert log == [
        Call("first", "w4a4", "open"),
        Call("first", "w4a4", "generate", "Hello"),
        Call("second", "bf16", "open"),
        Call("second", "bf16", "speak", "Hello"),
        Call("first", "w4a16", "generate", "Hello"),
    ]
