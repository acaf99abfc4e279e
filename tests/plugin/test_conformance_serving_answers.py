"""The items that ask a serving engine: what they say without one, and what each outcome of a comparison comes to."""

import json

import pytest

from pytest_q3omni.conformance import test_serving_answers as suite
from pytest_q3omni.engines.fake_serving import FakeServing
from pytest_q3omni.engines.serving import Prompt, PromptLogprobs
from pytest_q3omni.engines.vllm_questions import Question
from pytest_q3omni.errors import EngineError, MissingDependency
from pytest_q3omni.serve.agreement import compare

pytestmark = pytest.mark.tiny

PROMPTS = [Prompt(question=Question(f"{kind} {n}", kind, "?")) for kind in ("text", "image") for n in range(3)]


def answers(off=0.0, modality=""):
    tokens = tuple(range(40))
    return [
        PromptLogprobs(tokens, (-1.0 - (off if prompt.question.modality == modality else 0),) * 40, tokens)
        for prompt in PROMPTS
    ]


def compared(*off):
    return compare(PROMPTS, answers(), [answers()], answers(*off), placeholders=frozenset())


class Run:
    layers, input_layers, loaded = 4, 1, FakeServing(device="a made-up device").load()


def test_without_an_engine_it_says_what_is_needed(pytester, monkeypatch, tiny_cache):
    monkeypatch.delenv("Q3OMNI_ENGINE_PYTHON", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(pytester.path))
    module = "pytest_q3omni.conformance.test_serving_answers"
    result = pytester.runpytest_subprocess(
        "-p", "no:cacheprovider", "--pyargs", module, "-m", "tiny", "-rs", tiny_cache
    )
    outcomes = result.parseoutcomes()
    if "passed" in outcomes:
        pytest.skip("this interpreter has vLLM")
    assert outcomes["skipped"] == 11
    result.stdout.fnmatch_lines(["SKIPPED*needs an engine: no vLLM*Q3OMNI_ENGINE_PYTHON is not set*"])


def test_a_modality_that_agrees_passes_and_tells_its_figures(request, capsys):
    suite._judge(Run, compared(), "text", "weights", request)
    said = capsys.readouterr().out
    assert "BF16 twin, text, 4 layers, fake on a made-up device: mean |delta log p| 0.0000" in said
    told = dict(request.node.user_properties)
    assert told["q3omni agreement"] == said.strip()
    data = json.loads(told["q3omni agreement data"])
    assert (data["comparison"], data["control"], data["modality"], data["state"]) == ("weights", None, "text", "pass")
    assert data["apart"]["mean"] == 0 <= data["noise"]["mean"] < data["bounds"]["mean"]


def test_a_control_says_of_each_row_whether_it_was_rejected(request):
    with pytest.raises(pytest.fail.Exception):
        suite._must_reject(Run, compared(0.5, "image"), "input-scales-100-times-too-small", request)
    told = [json.loads(value) for name, value in request.node.user_properties if name == "q3omni agreement data"]
    assert {(row["comparison"], row["control"]) for row in told} == {("inputs", "input-scales-100-times-too-small")}
    assert [(row["modality"], row["state"]) for row in told] == [("text", "pass"), ("image", "fail"), ("all", "fail")]


def test_a_modality_that_does_not_fails_alone(request):
    found = compared(0.5, "image")
    suite._judge(Run, found, "text", "weights", request)
    with pytest.raises(pytest.fail.Exception, match=r"image prompts: mean .*0\.5.*image 0"):
        suite._judge(Run, found, "image", "weights", request)
    with pytest.raises(pytest.fail.Exception, match="no audio prompt"):
        suite._judge(Run, found, "audio", "weights", request)


def test_a_control_must_be_rejected_in_every_modality(request):
    both = [PromptLogprobs(one.tokens, tuple(value - 1 for value in one.logprobs), one.tokens) for one in answers()]
    suite._must_reject(
        Run, compare(PROMPTS, answers(), [answers()], both, placeholders=frozenset()), "experts-rotated", request
    )
    with pytest.raises(pytest.fail.Exception, match="not told from a sound checkpoint: all experts"):
        suite._must_reject(Run, compared(), "experts-rotated", request)
    with pytest.raises(pytest.fail.Exception, match="experts-rotated, text"):
        suite._must_reject(Run, compared(0.5, "image"), "experts-rotated", request)


@pytest.mark.parametrize(
    ("error", "outcome"), [(MissingDependency("no vLLM"), "skip"), (EngineError("died", where="vLLM"), "fail")]
)
def test_what_cannot_begin_is_said_once(error, outcome, monkeypatch, tmp_path):
    def prepared(runner, path, home):
        raise error

    monkeypatch.setattr(suite, "_prepared", prepared)
    found = suite._begun("tiny", tmp_path, tmp_path)
    assert found[0] == outcome
    assert str(error) in found[1]
