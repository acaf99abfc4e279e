"""What a comparison asks, of whom and in which order; by engines that read the files they are given."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from packed_tiny import pack

from pytest_q3omni.engines.fake_serving import FakeServing
from pytest_q3omni.engines.packed import packed_modules
from pytest_q3omni.engines.serving import PromptLogprobs
from pytest_q3omni.engines.vllm_questions import Question
from pytest_q3omni.errors import EngineError, UnknownName
from pytest_q3omni.omni.checkpoint import open_checkpoint
from pytest_q3omni.serve.asking import FRAME, ask_twice, in_whole_frames, with_replies
from pytest_q3omni.serve.twin_run import LEFT_ALONE, TwinRun

pytestmark = pytest.mark.tiny

QUESTIONS = [Question(f"text {number}", "text", f"Question {number}?") for number in range(3)]


def number_of(*parts):
    """A number that follows from the parts alone, 0 to 1."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big") / 2**32


class Scripted(FakeServing):
    """Gives probabilities that follow from the prompt, and worse ones where the files are not sound.

    damage: what it takes from each log-probability; found out from the checkpoint when it is loaded. effects: name ->
    size of what is added to each log-probability, as it follows from that name, the prompt and the token.
    """

    def __init__(self, path, damage, log, effects):
        self._damage, self._effects = damage(open_checkpoint(path)), effects
        super().__init__(path, logprobs=self._said, log=log)

    def _said(self, prompt):
        tokens = tuple(range(40))

        def of(token):
            here = prompt.question.id, token
            added = sum(size * (2 * number_of(name, *here) - 1) for name, size in self._effects.items())
            return -9 * number_of(*here) - self._damage + added

        return PromptLogprobs(tokens, tuple(map(of, tokens)), tokens)


ROUNDING = {"rounding": 0.2}  # 0.1 on average


def own(numerics_log):
    """Our own arithmetic: rounds in W4A4, and with noise half as much on top."""

    def engine(place, numerics, noise):
        effects = {**({"w4a4": ROUNDING, "w4a16": {}}[numerics]), **({} if noise is None else {f"noise {noise}": 0.1})}
        return Scripted(place, lambda _: 0.0, numerics_log, effects)

    return engine


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return pack(tmp_path_factory.mktemp("packed") / "checkpoint")


def test_a_run_asks_the_twin_once_and_leaves_nothing(source, tmp_path):
    log, seen = [], []

    def damage(checkpoint):
        seen.append((checkpoint.path.name, len(checkpoint.entries)))
        return 0.0

    def engine(place: Path, w4a4: bool):
        return Scripted(place, damage, log, ROUNDING if w4a4 else {})

    run = TwinRun(source, tmp_path, 2, 1, QUESTIONS, False, engine, own(log))
    assert run.weights().verdict.state == "pass"
    assert run.weights() is run.weights()
    assert [name for name, _ in seen] == ["twin", "cut"]
    assert log == [line for name in ("twin", "cut") for line in (f"load {tmp_path / name}", f"close {tmp_path / name}")]
    assert run.inputs().verdict.state == "pass"
    assert [name for name, _ in seen] == ["twin", "cut", "cut", "cut"]
    assert max(seen[2][1], seen[3][1]) < seen[1][1], "inputs are compared at fewer layers"
    assert run.inputs(LEFT_ALONE).verdict.state == "fail"
    assert log.count(f"load {tmp_path / 'cut'}") == 6, "weights, W4A4 and left alone; ours, with noise and without"
    assert not list(tmp_path.iterdir())


def test_what_else_an_engine_does_otherwise_is_not_counted_as_rounding(source, tmp_path):
    """Towers that round in another order: as far off as rounding inputs, with and without it."""

    def engine(place: Path, w4a4: bool):
        return Scripted(place, lambda _: 0.0, [], {"tower": 0.3, **(ROUNDING if w4a4 else {})})

    run = TwinRun(source, tmp_path, 1, 1, QUESTIONS, False, engine, own([]))
    assert {row.state for row in run.inputs().rows} == {"pass"}
    assert run.inputs().rows[0].apart.mean == pytest.approx(0, abs=1e-9)
    assert {row.state for row in run.inputs(LEFT_ALONE).rows} == {"fail"}


def test_an_engine_that_rounds_inputs_where_it_should_not_shows_in_the_control(source, tmp_path):
    """Then nothing can be told of what its rounding does: it is in both."""

    def engine(place: Path, w4a4: bool):
        return Scripted(place, lambda _: 0.0, [], ROUNDING)

    run = TwinRun(source, tmp_path, 1, 1, QUESTIONS, False, engine, own([]))
    assert {row.state for row in run.inputs(LEFT_ALONE).rows} == {"pass"}
    assert {row.state for row in run.inputs().rows} == {"fail"}


@pytest.mark.parametrize(
    ("effects", "damage", "state"),
    [
        (ROUNDING, 0.0, "pass"),
        (ROUNDING | {"its own": 0.1}, 0.0, "pass"),
        (ROUNDING | {"its own": 0.5}, 0.0, "fail"),
        ({"another": 0.2}, 0.0, "fail"),
        (ROUNDING, 0.3, "fail"),
        (ROUNDING, float("nan"), "fail"),
        ({}, 0.0, "fail"),
    ],
)
def test_inputs_are_judged_by_what_rounding_them_does(source, tmp_path, effects, damage, state):
    """Ours costs 0.1 on average: an engine must be nearer than that, and move the same tokens the same way."""

    def engine(place: Path, w4a4: bool):
        return Scripted(place, lambda _: damage if w4a4 else 0.0, [], effects if w4a4 else {})

    run = TwinRun(source, tmp_path, 1, 1, QUESTIONS, False, engine, own([]))
    for row in run.inputs().rows:
        assert row.state == state
        assert row.noise.mean == pytest.approx(0.05, rel=0.2)
        assert row.noise.in_common == pytest.approx(0.89, abs=0.03)
        assert row.bounds.mean == pytest.approx(0.1, rel=0.2)


def test_a_control_reaches_the_engine(source, tmp_path):
    sound = {name: source.read(name).tobytes() for name in source.entries}

    def damage(checkpoint):
        unlike = [n for n in checkpoint.entries if n in sound and checkpoint.read(n).tobytes() != sound[n]]
        return 0.5 if checkpoint.path.name == "cut" and unlike else 0.0

    def engine(place: Path, w4a4: bool):
        return Scripted(place, damage, [], ROUNDING if w4a4 else {})

    run = TwinRun(source, tmp_path, 2, 1, QUESTIONS, False, engine, own([]))
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
        return Scripted(place, damage, [], {})

    alone = TwinRun(source, tmp_path / "alone", 2, 1, QUESTIONS, True, engine, own([]))
    (tmp_path / "alone").mkdir()
    assert alone.weights().verdict.state == "pass"
    assert asked == [False, False]
    whole = TwinRun(source, tmp_path, 2, 1, QUESTIONS, False, engine, own([]))
    assert whole.weights().verdict.state == "fail"


def test_an_engine_that_dies_leaves_no_files(source, tmp_path):
    def engine(place: Path, w4a4: bool = True):
        raise EngineError("died")

    run = TwinRun(source, tmp_path, 1, 1, QUESTIONS, False, engine, own([]))
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


def test_a_control_spoils_the_first_layer_that_is_packed(source, tmp_path):
    """A recipe may leave the first layer as it is: then there is nothing to spoil there, and nothing to compare."""
    packed = {module for module in packed_modules(source) if module.startswith("thinker.model.layers.0.")}
    kept = {name: entry for name, entry in source.entries.items() if name.rpartition(".")[0] not in packed}
    later, seen = replace(source, entries=kept), {}

    def damage(checkpoint):
        seen[checkpoint.path.name] = {name: checkpoint.read(name).tobytes() for name in checkpoint.entries}
        return 0.0

    def engine(place: Path, w4a4: bool):
        return Scripted(place, damage, [], {})

    TwinRun(later, tmp_path, 2, 2, QUESTIONS, False, engine, own([])).weights("nibbles-swapped")
    changed = {name for name, found in seen["cut"].items() if found != source.read(name).tobytes()}
    assert changed
    assert all(name.startswith("thinker.model.layers.1.") for name in changed)
