"""Each assertion returns what it judged, on paths, handles and records, and refuses bounds that judge nothing."""

import inspect
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import pytest_q3omni.assertions as module
from pytest_q3omni import api
from pytest_q3omni.assertions import (
    assert_calibrated,
    assert_chatml,
    assert_compression_ratio,
    assert_expert_coverage,
    assert_output_parity,
    assert_quantized_fraction,
    assert_verified,
)
from pytest_q3omni.errors import Inconsistent, InvalidRequest, NotChatML, UnknownName, Unreadable
from pytest_q3omni.omni.tiny import record_path
from pytest_q3omni.records import Agreement, Divergence, Finding, Parity, Verdict

pytestmark = pytest.mark.tiny


@pytest.fixture
def record():
    return api.load_record(record_path())


def test_the_public_names_are_those_of_the_design_so_far():
    functions = {name for name, value in vars(module).items() if callable(value) and not name.startswith("_")}
    assert functions == set(module.__all__)
    assert not functions & {name for name, value in vars(module).items() if inspect.ismodule(value)}
    assert len(module.__all__) == 10


def test_compression_ratio_equals_the_plan(original_checkpoint, quantized_checkpoint):
    planned = api.plan(original_checkpoint, ["nvfp4-default"])[0]
    measured = assert_compression_ratio(quantized_checkpoint, original_checkpoint, at_least=1.2)
    assert measured.value == pytest.approx(planned.compression_ratio)
    assert measured.details["planned"] == pytest.approx(planned.compression_ratio)
    assert measured.details["tensor_bytes"] == planned.tensor_bytes
    assert (measured.name, measured.unit, measured.bound) == ("compression ratio", "x", 1.2)


def test_compression_ratio_without_an_original_counts_two_bytes_a_parameter(quantized_checkpoint):
    measured = assert_compression_ratio(str(quantized_checkpoint), at_least=1)
    assert measured.value == pytest.approx(2 * measured.details["parameters"] / measured.details["tensor_bytes"])


def test_an_original_compared_with_itself_is_no_smaller(original_checkpoint):
    assert assert_compression_ratio(original_checkpoint, original_checkpoint, at_least=1).value == 1


def test_quantized_fraction_equals_the_plan(original_checkpoint, quantized_checkpoint):
    planned = api.plan(original_checkpoint, ["nvfp4-default"])[0]
    measured = assert_quantized_fraction(quantized_checkpoint, at_least=0.25)
    assert measured.value == measured.details["planned"] == pytest.approx(planned.quantized_fraction)


def test_a_handle_is_as_good_as_a_path(quantized_checkpoint):
    handle = SimpleNamespace(path=quantized_checkpoint)
    assert assert_quantized_fraction(handle, at_least=0.25) == assert_quantized_fraction(
        quantized_checkpoint, at_least=0.25
    )


def test_calibrated_takes_a_record_its_directory_or_a_checkpoint(record, quantized_checkpoint):
    given = [record, record_path(), quantized_checkpoint, SimpleNamespace(path=quantized_checkpoint)]
    values = {assert_calibrated(each, at_least_samples=60).value for each in given}
    assert values == {60}


def test_expert_coverage_counts_all_modalities_or_each(record):
    measured = assert_expert_coverage(record)
    assert measured.value >= 1
    assert assert_expert_coverage(record, modalities=["text"]).value <= measured.value
    assert assert_expert_coverage(record, modalities="text") == assert_expert_coverage(record, modalities=["text"])


def test_verified_says_what_was_checked(original_checkpoint, quantized_checkpoint):
    measured = assert_verified(
        quantized_checkpoint, source=original_checkpoint, require=["packed", "consistent", "faithful", "calibrated"]
    )
    assert (measured.value, measured.bound) == (0, 0)
    assert measured.details["verdicts"]["faithful"] == "pass"
    assert measured.details["verdicts"]["loads"] == "not checked"


def test_chatml_takes_a_prompt_messages_or_a_conversation(conversation):
    assert assert_chatml("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n").value == 2
    assert assert_chatml([{"role": "system", "content": "x"}, {"role": "user", "content": "Hello"}]).value == 2
    assert assert_chatml(conversation).details["user"] == 1


@pytest.mark.parametrize("bound", [math.nan, -1, 0, math.inf, True, "2"])
def test_a_ratio_that_is_no_number_above_0_is_refused(quantized_checkpoint, bound):
    with pytest.raises(InvalidRequest, match=r"at_least=.*a number above 0"):
        assert_compression_ratio(quantized_checkpoint, at_least=bound)


@pytest.mark.parametrize("bound", [math.nan, -0.1, 0, 82, math.inf, None])
def test_a_share_above_one_is_refused(quantized_checkpoint, bound):
    with pytest.raises(InvalidRequest, match=r"write 0\.82 for 82 %"):
        assert_quantized_fraction(quantized_checkpoint, at_least=bound)


@pytest.mark.parametrize("bound", [0, -1, 1.5, True, math.nan])
def test_counts_are_whole_numbers_above_zero(record, bound):
    with pytest.raises(InvalidRequest, match="at_least_samples="):
        assert_calibrated(record, at_least_samples=bound)
    with pytest.raises(InvalidRequest, match="at_least_tokens="):
        assert_expert_coverage(record, at_least_tokens=bound)


def test_names_are_checked(record, quantized_checkpoint):
    with pytest.raises(UnknownName, match="no modality is called 'video'"):
        assert_expert_coverage(record, modalities=["video"])
    with pytest.raises(UnknownName, match="no verdict is called 'faithfull'"):
        assert_verified(quantized_checkpoint, require=["faithfull"])


def test_what_is_no_checkpoint_is_an_error_not_a_failure(tmp_path, original_checkpoint):
    for call in (assert_compression_ratio, assert_quantized_fraction):
        with pytest.raises(Unreadable):
            call(tmp_path, at_least=1)
    with pytest.raises(Unreadable):
        assert_verified(tmp_path)
    with pytest.raises(Unreadable):
        assert_calibrated(original_checkpoint)
    with pytest.raises(InvalidRequest, match="no mapping"):
        assert_chatml(["Hello"])


def test_failures_are_assertion_errors_not_ours(record, original_checkpoint):
    with pytest.raises(AssertionError) as failure:
        assert_chatml("Hello")
    assert not isinstance(failure.value, NotChatML | Inconsistent)
    with pytest.raises(AssertionError):
        assert_verified(original_checkpoint)
    with pytest.raises(AssertionError):
        assert_expert_coverage(replace(record, expert_tokens={}))


def test_the_traceback_ends_at_the_call(pytester):
    pytester.makepyfile(
        "from pytest_q3omni.assertions import assert_chatml\ndef test_mine():\n    assert_chatml('Hello')\n"
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    assert "assertions.py:" not in result.stdout.str()


# --- output parity, of records: what is measured is tested in tests/parity


def divergence(mean, top1=0.975):
    return Divergence(12, 1234, mean, mean / 14, mean, mean, mean, mean, top1)


def row(modality, mean, *, limit=0.02, state="pass", top1=0.975):
    plain = divergence(0.003)
    return Agreement(
        modality, "w4a16", divergence(mean, top1), plain, plain, plain, 1.0, 1.0, 1.0, limit, 50, state
    )  # fmt: skip


@pytest.fixture
def answering(monkeypatch):
    """Let `api.parity` find these rows, and write down what it is asked."""
    asked = []

    def pretend(*rows, findings=()):
        verdict = Verdict("agrees", "pass", "")
        found = Parity("original", "packed", "cpu", {}, verdict, rows, findings=findings)
        monkeypatch.setattr(api, "parity", lambda *paths, **options: asked.append((paths, options)) or found)
        return asked

    return pretend


def test_parity_returns_the_row_that_is_nearest_to_its_limit(answering):
    answering(row("text", 0.01, limit=0.05), row("image", 0.004, limit=0.005))
    measured = assert_output_parity("original", "packed")
    assert (measured.name, measured.value, measured.bound, measured.unit) == ("mean KL", 0.004, 0.005, "nats")
    assert list(measured.details["rows"]) == ["text w4a16", "image w4a16"]
    assert measured.details["parity"].quantized == "packed"
    assert assert_output_parity("original", "packed", max_mean_kl=0.01).value == 0.01, "of the largest, with a bound"


def test_parity_asks_for_what_its_caller_asks_for(answering):
    asked = answering(row("text", 0.001))
    original = SimpleNamespace(path="original", device="cuda:1")
    assert_output_parity(original, "packed", conversations="mine.jsonl", numerics="w4a4")
    options = {"conversations": "mine.jsonl", "numerics": "w4a4", "device": "cuda:1"}
    assert asked == [((Path("original"), Path("packed")), options)]


@pytest.mark.parametrize(
    ("bounds", "passes"),
    [
        ({}, True),
        ({"max_mean_kl": 0.01}, True),
        ({"max_mean_kl": 0.00999}, False),
        ({"min_top1": 0.975}, True),
        ({"min_top1": 0.976}, False),
        ({"max_mean_kl": 0.01, "min_top1": 1}, False),
    ],
)
def test_parity_with_bounds_of_the_callers_own(answering, bounds, passes):
    answering(row("text", 0.01), row("image", 0.001, top1=1.0))
    if passes:
        assert_output_parity("original", "packed", **bounds)
    else:
        with pytest.raises(AssertionError, match="text answers in W4A16"):
            assert_output_parity("original", "packed", **bounds)


def test_a_mean_of_the_callers_own_replaces_the_limits_and_nothing_else(answering):
    beyond = Finding("answers", "error", "text answers in W4A16", "mean KL 0.05", "0.02", "pack again")
    answering(row("text", 0.05, state="fail"), row("image", 0.001, state="not checked"), findings=(beyond,))
    with pytest.raises(AssertionError, match=r"mean KL 0\.05; expected 0\.02"):
        assert_output_parity("original", "packed")
    assert assert_output_parity("original", "packed", max_mean_kl=0.1).value == 0.05
    scale = Finding("input-ranges", "error", "a.input_scale", "100 times more", "32 at most", "calibrate again")
    sound = Finding("waveforms", "error", "speech in W4A16", "12 dB", "20 dB", "take code2wav from the original")
    answering(row("text", 0.05), findings=(scale, sound))
    with pytest.raises(AssertionError, match=r"a\.input_scale: 100 times more(.|\n)*speech in W4A16: 12 dB"):
        assert_output_parity("original", "packed", max_mean_kl=0.1)


def test_a_modality_that_nobody_asks_about_is_no_failure_of_parity(answering):
    missing = Finding("answers", "warning", "audio answers", "no conversation asks for them", "some", "add some")
    answering(row("text", 0.001), findings=(missing,))
    assert_output_parity("original", "packed")


@pytest.mark.parametrize("bound", [math.nan, -1, 0, math.inf, True, "0.1"])
def test_parity_bounds_are_numbers_above_zero(answering, bound):
    asked = answering(row("text", 0.001))
    with pytest.raises(InvalidRequest, match=r"max_mean_kl=.*leave it out, and the limits are measured"):
        assert_output_parity("original", "packed", max_mean_kl=bound)
    with pytest.raises(InvalidRequest, match=r"min_top1=.*at most 1 \(a share: write 0\.95 for 95 %\)"):
        assert_output_parity("original", "packed", min_top1=95 if bound is math.inf else bound)
    assert asked == [], "before any model is loaded"
