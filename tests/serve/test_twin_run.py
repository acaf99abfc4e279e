"""What a comparison asks, of whom and in which order; by engines that read the files they are given."""

import hashlib
from pathlib import Path

import pytest
from packed_tiny import pack

from pytest_q3omni.engines.fake_serving import FakeServing
from pytest_q3omni.engines.serving import PromptLogprobs
from pytest_q3omni.engines.vllm_questions import Question
from pytest_q3omni.errors import EngineError, UnknownName
from pytest_q3omni.omni.checkpoint import open_checkpoint
from pytest_q3omni.serve.asking import FRAME, ask_twice, in_whole_frames, with_replies
from pytest_q3omni.serve.twin_run import TwinRun

pytestmark = pytest.mark.tiny

QUESTIONS = [Question(f"text {number}", "text", f"Question {number}?") for number in range(3)]


def number_of(*parts):
    """A number that follows from the parts alone, 0 to 1."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big") / 2**32


class Scripted(FakeServing):
    """Gives probabilities that follow from the prompt, and worse ones where the files are not sound.

    damage: what it adds to each log-probability; found out from the checkpoint when it is loaded.
    """

    def __init__(self, path, damage, log):
        self._damage = damage(open_checkpoint(path))
        super().__init__(path, logprobs=self._said, log=log)

    def _said(self, prompt):
        tokens = tuple(range(40))
        sure = [-9 * number_of(prompt.question.id, token) for token in tokens]
        return PromptLogprobs(tokens, tuple(value - self._damage for value in sure), tokens)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return pack(tmp_path_factory.mktemp("packed") / "checkpoint")


def test_a_run_asks_the_twin_once_and_leaves_nothing(source, tmp_path):
    log, seen = [], []

    def damage(checkpoint):
        seen.append((checkpoint.path.name, len(checkpoint.entries)))
        return 0.0

    def engine(place: Path, w4a4: bool = True):
        return Scripted(place, damage, log)

    run = TwinRun(source, tmp_path, 1, QUESTIONS, False, engine, engine)
    assert run.weights().verdict.state == "pass"
    assert run.weights() is run.weights()
    assert [name for name, _ in seen] == ["twin", "cut"]
    assert log == [line for name in ("twin", "cut") for line in (f"load {tmp_path / name}", f"close {tmp_path / name}")]
    assert run.inputs().verdict.state == "pass"
    assert [name for name, _ in seen] == ["twin", "cut", "cut", "cut"]
    assert not list(tmp_path.iterdir())


def test_a_control_reaches_the_engine(source, tmp_path):
    sound = {name: source.read(name).tobytes() for name in source.entries}

    def damage(checkpoint):
        unlike = [n for n in checkpoint.entries if n in sound and checkpoint.read(n).tobytes() != sound[n]]
        return 0.5 if checkpoint.path.name == "cut" and unlike else 0.0

    def engine(place: Path, w4a4: bool = True):
        return Scripted(place, damage, [])

    run = TwinRun(source, tmp_path, 2, QUESTIONS, False, engine, engine)
    assert run.weights().verdict.state == "pass"
    for control in ("experts-rotated", "attention-scale-doubled", "nibbles-swapped"):
        assert run.weights(control).verdict.state == "fail"
    assert run.inputs().verdict.state == "pass"
    assert run.inputs("input-scales-100-times-too-small").verdict.state == "fail"
    with pytest.raises(UnknownName):
        run.weights("nothing of that name")
    assert not list(tmp_path.iterdir())


def test_weights_alone_are_given_where_inputs_would_be_quantized(source, tmp_path):
    asked = []

    def damage(checkpoint):
        return float(any(name.endswith("input_scale") for name in checkpoint.entries))

    def engine(place: Path, w4a4: bool):
        asked.append(w4a4)
        return Scripted(place, damage, [])

    alone = TwinRun(source, tmp_path / "alone", 2, QUESTIONS, True, engine, lambda place: engine(place, True))
    (tmp_path / "alone").mkdir()
    assert alone.weights().verdict.state == "pass"
    assert asked == [False, False]
    whole = TwinRun(source, tmp_path, 2, QUESTIONS, False, engine, lambda place: engine(place, True))
    assert whole.weights().verdict.state == "fail"


def test_an_engine_that_dies_leaves_no_files(source, tmp_path):
    def engine(place: Path, w4a4: bool = True):
        raise EngineError("died")

    run = TwinRun(source, tmp_path, 1, QUESTIONS, False, engine, engine)
    with pytest.raises(EngineError):
        run.begin()
    assert not list(tmp_path.iterdir())


def test_replies_end_before_a_placeholder():
    engine = FakeServing()
    engine.load()
    whole = with_replies(engine, QUESTIONS, frozenset(), tokens=8)
    assert all(len(prompt.reply) == 8 for prompt in whole)
    third = whole[0].reply[2]
    assert [prompt.reply for prompt in with_replies(engine, QUESTIONS, frozenset([third]), tokens=8)] == [
        prompt.reply[: prompt.reply.index(third)] if third in prompt.reply else prompt.reply for prompt in whole
    ]


def test_sounds_end_with_whole_frames():
    frame = 4 * FRAME
    sounds = (b"", bytes(4), bytes(frame), bytes([1]) * (frame + 4))
    padded = in_whole_frames(Question("q", "audio", "?", sounds=sounds)).sounds
    assert [len(sound) for sound in padded] == [0, frame, frame, 2 * frame]
    assert all(after.startswith(before) for before, after in zip(sounds, padded, strict=True))


def test_prompts_are_asked_together_and_one_by_one():
    batches = []

    class Listening(FakeServing):
        def prompt_logprobs(self, prompts):
            batches.append([prompt.question.id for prompt in prompts])
            return super().prompt_logprobs(prompts)

    engine = Listening(logprobs=lambda prompt: PromptLogprobs((1,), (-number_of(prompt.question.id),), (1,)))
    engine.load()
    prompts = with_replies(engine, QUESTIONS, frozenset())
    together, alone = ask_twice(engine, prompts)
    assert together == alone
    assert len({one.logprobs for one in together}) == len(prompts)
    names = [question.id for question in QUESTIONS]
    assert batches == [names, *([name] for name in reversed(names))]
