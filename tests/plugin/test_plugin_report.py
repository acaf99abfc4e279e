"""--q3omni-report: what the tests of a run judged, in one file, with workers as without."""

import json
import math
from dataclasses import replace

import pytest

from pytest_q3omni import api
from pytest_q3omni.omni.tiny import checkpoint_path
from pytest_q3omni.plugin import reporting
from pytest_q3omni.records import Finding, Verdict
from pytest_q3omni.schema import judgement_from_json, judgement_json

pytestmark = pytest.mark.tiny

JUDGE = """
import pytest
from pytest_q3omni.assertions import assert_verified

def test_short(quantized_checkpoint):
    assert_verified(quantized_checkpoint)

def test_whole(quantized_checkpoint, original_checkpoint):
    assert_verified(quantized_checkpoint, source=original_checkpoint)

def test_again(quantized_checkpoint):
    assert_verified(quantized_checkpoint)

def test_failing(original_checkpoint):
    with pytest.raises(AssertionError):
        assert_verified(original_checkpoint)
"""


@pytest.fixture(scope="module")
def judgement():
    return api.verify(checkpoint_path())


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    pytester.makepyfile(JUDGE)
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", *arguments)


def test_json_holds_the_fullest_judgement_of_every_checkpoint(pytester, tiny_cache):
    result = run(pytester, tiny_cache, "--q3omni-report=out/report.json")
    result.assert_outcomes(passed=4)
    for place in ("*/checkpoint-nvfp4-* written to */out/report.json", "*/tiny/*"):  # by path, which is the machine's
        result.stdout.fnmatch_lines([f"q3omni: judgement of {place}"])
    raw = json.loads((pytester.path / "out" / "report.json").read_text())["judgements"]
    assert len(raw) == 2
    verdicts = [{name: verdict["state"] for name, verdict in each["verdicts"].items()} for each in raw]
    assert verdicts[0]["faithful"] == "pass", "not that of the shorter judgement that came later"
    assert verdicts[1]["packed"] == "fail"


def test_workers_send_what_they_judged(pytester, tiny_cache):
    run(pytester, tiny_cache, "--q3omni-report=one.json").assert_outcomes(passed=4)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-n", "2", tiny_cache, "--q3omni-report=two.json")
    result.assert_outcomes(passed=4)
    assert json.loads((pytester.path / "one.json").read_text()) == json.loads((pytester.path / "two.json").read_text())


def test_html_is_a_page_for_every_checkpoint(pytester, tiny_cache):
    result = run(pytester, tiny_cache, "--q3omni-report=report.html")
    result.stdout.fnmatch_lines(["q3omni: * written to */report.html", "q3omni: * written to */report-2.html"])
    for name in ("report.html", "report-2.html"):
        assert (pytester.path / name).read_text().lower().startswith("<!doctype html>")


def test_where_nothing_was_judged_it_says_so(pytester):
    pytester.makepyfile(test_other="def test_a(): pass")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "--q3omni-report=report.html", "test_other.py")
    ways = "assert_verified or assert_output_parity"
    result.stdout.fnmatch_lines([f"q3omni: nothing was judged (no {ways} ran): */report.html not written"])
    assert not (pytester.path / "report.html").exists()


def test_what_travels_between_workers_comes_back_whole(judgement):
    finding = Finding("shapes", "error", "a.weight", "(1,)", "(2,)", "pack it again")
    full = replace(judgement, findings=(finding,), tensor_errors={"a": (0.09, 0.2), "b": (math.inf, math.inf)})
    assert judgement_from_json(json.loads(json.dumps(judgement_json(full)))) == full


def test_of_two_judgements_the_one_that_checked_more_counts(judgement):
    more = replace(judgement, verdicts=(*judgement.verdicts, Verdict("faithful", "pass", "")))
    assert reporting.merged([more, judgement]) == [more]
    assert reporting.merged([judgement, more]) == [more]
    later = replace(judgement, tensor_errors={"a": (0.1, 0.1)})
    assert reporting.merged([judgement, later]) == [later], "of equals the last"


def test_a_report_that_cannot_be_written_is_a_sentence_and_no_success(pytester, tiny_cache):
    (pytester.path / "file").write_text("in the way")
    result = run(pytester, tiny_cache, "--q3omni-report=file/report.json")
    result.assert_outcomes(passed=4)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["q3omni: ERROR: */file*: no report. Fix: give --q3omni-report a path *"])
    assert "Traceback" not in result.stdout.str()
