"""transformers as a serving engine: what it says is what the handle says, alone and many at once, of the tiny pair."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

pytestmark = pytest.mark.tiny

_REASON = "needs the quantize extra: pip install pytest-q3omni[quantize]"
for _name in ("torch", "transformers", "PIL", "soundfile"):
    pytest.importorskip(_name, reason=_REASON)
np = pytest.importorskip("numpy")

from pytest_q3omni.engines.handle import ModelHandle  # noqa: E402
from pytest_q3omni.engines.serving import Prompt  # noqa: E402
from pytest_q3omni.engines.transformers_serving import TransformersEngine  # noqa: E402
from pytest_q3omni.engines.vllm_questions import bundled_questions  # noqa: E402
from pytest_q3omni.errors import EngineError, MissingDependency  # noqa: E402
from pytest_q3omni.omni.conversations import load_conversations  # noqa: E402
from pytest_q3omni.omni.tiny import checkpoint_path, conversations_path  # noqa: E402

NEW = 16
QUESTIONS = {
    kind: [one for one in bundled_questions() if one.modality == kind][:2] for kind in ("text", "image", "audio")
}
CONVERSATIONS = {conversation.id: conversation for conversation in load_conversations(conversations_path())}


def same(question):
    """The question as a conversation: pictures and sound come first there, as engines are asked."""
    known = CONVERSATIONS[question.id]
    parts = sorted(known.messages[0]["content"], key=lambda part: part["type"] == "text")
    return replace(known, messages=({"role": "user", "content": parts},))


@pytest.fixture(scope="module")
def serve():
    """The engine of a checkpoint, loaded once for all tests here."""
    engines: dict[Path, TransformersEngine] = {}

    def loaded(path: Path) -> TransformersEngine:
        if path not in engines:
            engines[path] = TransformersEngine(path, device="cpu")
            engines[path].load()
        return engines[path]

    yield loaded
    for engine in engines.values():
        engine.close()


@pytest.fixture(params=["original", "quantized"])
def path(request, original_checkpoint, quantized_checkpoint) -> Path:
    return original_checkpoint if request.param == "original" else quantized_checkpoint


@pytest.fixture
def handle(path):
    made = ModelHandle(path, device="cpu")
    yield made
    made.close()


def asked(kind: str) -> list[Prompt]:
    return [Prompt(question=question) for question in QUESTIONS[kind]]


@pytest.mark.parametrize("kind", QUESTIONS)
def test_it_answers_as_the_handle_does(serve, handle, path, kind) -> None:
    said = serve(path).generate(asked(kind), NEW)
    assert len(said) == 2
    for made, question in zip(said, QUESTIONS[kind], strict=True):
        answer = handle.generate(same(question), max_new_tokens=NEW)
        assert (made.tokens, made.text) == (answer.tokens, answer.text)
        assert len(made.times) == len(made.tokens)


@pytest.mark.parametrize("kind", QUESTIONS)
def test_it_finds_replies_as_likely_as_the_handle_does(serve, handle, path, kind) -> None:
    engine = serve(path)
    replies = [one.tokens for one in engine.generate(asked(kind), NEW)]
    questions = QUESTIONS[kind]
    prompts = [Prompt(question=one, reply=reply) for one, reply in zip(questions, replies, strict=True)]
    for found, question, reply in zip(engine.prompt_logprobs(prompts), questions, replies, strict=True):
        theirs = handle.logprobs(same(question), reply)
        assert found.tokens[-len(reply) :] == reply
        np.testing.assert_allclose(found.logprobs[-len(reply) :], theirs.of_answer, atol=2e-3)
        assert found.most_likely[-len(reply) :] == tuple(theirs.values.argmax(-1).tolist())
        assert found.most_likely[-len(reply) :] == reply, "it was written greedily"


def test_the_two_checkpoints_differ(serve, original_checkpoint, quantized_checkpoint) -> None:
    prompts = [Prompt(question=one, reply=(5, 6, 7)) for one in QUESTIONS["text"]]
    first, second = (serve(path).prompt_logprobs(prompts) for path in (original_checkpoint, quantized_checkpoint))
    assert first[0].tokens == second[0].tokens
    assert first[0].logprobs != second[0].logprobs


def test_what_it_loads_is_said(serve, original_checkpoint, quantized_checkpoint) -> None:
    before, after = serve(original_checkpoint).load(), serve(quantized_checkpoint).load()
    assert before.engine == f"transformers {before.versions['transformers']}"
    assert (before.weights, before.capability, before.kernels.eager) == ("real", None, True)
    assert before.device.endswith(" CPU")
    assert before.weight_bytes > 1_000_000
    (name,), (other,) = before.kernels.linear, after.kernels.linear
    assert (name, other) == ("torch bf16", "torch w4a4")
    assert before.kernels.experts == {"eager bf16": 2}
    memory = serve(original_checkpoint).memory()
    assert memory.allocated == before.weight_bytes
    assert memory.peak > memory.allocated


def test_the_numerics_can_be_named(quantized_checkpoint) -> None:
    engine = TransformersEngine(quantized_checkpoint, numerics="w4a16", device="cpu")
    assert list(engine.load().kernels.linear) == ["torch w4a16"]
    engine.close()


ROW = tuple(range(300, 312))


def test_prompts_of_one_length_run_together_and_say_the_same_as_alone(serve, original_checkpoint) -> None:
    engine = serve(original_checkpoint)
    prompts = [Prompt(tokens=ROW), Prompt(tokens=ROW[::-1]), Prompt(tokens=ROW[:-1], reply=ROW[-1:])]
    together = engine.generate(prompts, 6, past_the_end=True)
    alone = [engine.generate([prompt], 6, past_the_end=True)[0] for prompt in prompts]
    assert [one.tokens for one in together] == [one.tokens for one in alone]
    assert together[0].times == together[1].times, "one batch"
    assert together[0].tokens == together[2].tokens, "a reply is part of the prompt"


def test_prompts_of_different_lengths_are_answered_in_their_order(serve, original_checkpoint) -> None:
    engine = serve(original_checkpoint)
    question = Prompt(question=QUESTIONS["text"][0])
    prompts = [Prompt(tokens=ROW), question, Prompt(tokens=ROW[:5]), question, Prompt(tokens=ROW[::-1])]
    made = engine.generate(prompts, 6, past_the_end=True)
    assert [one.tokens for one in made] == [engine.generate([one], 6, past_the_end=True)[0].tokens for one in prompts]
    assert made[1].tokens == made[3].tokens
    likely = engine.prompt_logprobs(prompts)
    assert [len(one.tokens) for one in likely][::2] == [11, 4, 11]
    assert likely[0].tokens == ROW[1:]


def test_tokens_come_one_after_another(serve, original_checkpoint) -> None:
    (made,) = serve(original_checkpoint).generate([Prompt(tokens=ROW)], 6, past_the_end=True)
    assert len(made.tokens) == len(made.times) == 6
    assert all(before < after for before, after in zip((0.0, *made.times), made.times, strict=False))


def test_past_the_end_it_goes_on(serve, original_checkpoint) -> None:
    engine, prompts = serve(original_checkpoint), asked("text")
    ended = engine.generate(prompts, 24)
    assert all(len(one.tokens) < 24 for one in ended), "the tiny model comes to an end"
    assert {len(one.tokens) for one in engine.generate(prompts, 24, past_the_end=True)} == {24}
    assert len(engine.generate(prompts, 1, past_the_end=True)[0].tokens) == 1


def test_a_question_that_it_cannot_answer_is_told_and_it_goes_on(serve, original_checkpoint) -> None:
    engine = serve(original_checkpoint)
    with pytest.raises(EngineError, match="`generate` failed: IndexError"):
        engine.generate([Prompt(tokens=(1, 10**6))], 2)
    assert engine.generate([Prompt(tokens=ROW)], 2)


def test_a_checkpoint_that_does_not_load_says_why(tmp_path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(checkpoint_path(), broken)
    config = json.loads((broken / "config.json").read_text())
    config["thinker_config"]["text_config"]["hidden_size"] *= 2
    (broken / "config.json").write_text(json.dumps(config))
    with pytest.raises(EngineError, match=r"transformers .*: `load` failed: ") as caught:
        TransformersEngine(broken, device="cpu").load()
    assert str(broken) in caught.value.found
    assert "shape" in caught.value.found


def test_a_directory_that_is_none_says_so(tmp_path) -> None:
    with pytest.raises(EngineError, match=r"`load` failed: Unreadable: .*absent"):
        TransformersEngine(tmp_path / "absent").load()


def test_it_does_not_run_what_lies_where_pytest_was_started(tmp_path, monkeypatch, original_checkpoint) -> None:
    """`python -m` looks into the folder it works in, which is the engine's own."""
    (tmp_path / "torch.py").write_text("raise SystemExit('a stranger')")
    monkeypatch.chdir(tmp_path)
    engine = TransformersEngine(original_checkpoint, device="cpu")
    assert engine.load().weights == "real"
    engine.close()


def test_without_transformers_the_extra_is_named(monkeypatch) -> None:
    from pytest_q3omni.engines import transformers_serving

    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(transformers_serving, "version", absent)
    with pytest.raises(MissingDependency, match=r"quantize"):
        TransformersEngine(checkpoint_path())


def test_noise_moves_what_it_says_each_time_otherwise_and_from_a_seed_the_same(quantized_checkpoint, serve) -> None:
    prompts = asked("text")
    without = serve(quantized_checkpoint).prompt_logprobs(prompts)
    found = []
    for seed in (5, 5, 6):
        engine = TransformersEngine(quantized_checkpoint, numerics="w4a4", device="cpu", noise=seed)
        try:
            engine.load()
            found.append([engine.prompt_logprobs(prompts) for _ in range(2)])
        finally:
            engine.close()
    assert found[0] == found[1] != found[2]
    assert len({one.logprobs for one in (without[0], *(said[0] for said in found[0]))}) == 3
    for said in found[0]:
        moved = np.abs(np.subtract(said[0].logprobs, without[0].logprobs))
        assert 0 < moved.mean() < 1, "noise, not another model"
