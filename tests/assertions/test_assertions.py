"""Each assertion returns what it judged, on paths, handles and records, and refuses bounds that judge nothing."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest

import pytest_q3omni.assertions as module
from pytest_q3omni import api
from pytest_q3omni.assertions import (
    assert_calibrated,
    assert_chatml,
    assert_compression_ratio,
    assert_expert_coverage,
    assert_quantized_fraction,
    assert_verified,
)
from pytest_q3omni.errors import Inconsistent, InvalidRequest, NotChatML, UnknownName, Unreadable
from pytest_q3omni.omni.tiny import record_path

pytestmark = pytest.mark.tiny


@pytest.fixture
def record():
    return api.load_record(record_path())


def test_the_public_names_are_those_of_the_design_so_far():
    defined = {name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
    assert {name for name in defined if not name.startswith("_")} == set(module.__all__)
    assert len(module.__all__) == 6, "assert_output_parity and assert_loads_in_vllm come with what they need"


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
