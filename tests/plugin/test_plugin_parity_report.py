"""--q3omni-report: what assert_output_parity judged, joined with the judgement of the same checkpoint's files.

The answers are made up: models are asked in tests/parity, and here a run must stay short.
"""

import json
import math
import shutil
from dataclasses import replace
from itertools import permutations

import pytest

from pytest_q3omni import api
from pytest_q3omni.omni.tiny import checkpoint_path
from pytest_q3omni.plugin import reporting
from pytest_q3omni.records import Finding, Parity, Verdict
from pytest_q3omni.schema import parity_from_json

pytestmark = pytest.mark.tiny

ANSWERS = """
import math
import pytest
from pytest_q3omni import api
from pytest_q3omni.assertions import assert_output_parity, assert_verified
from pytest_q3omni.records import Agreement, Divergence, Finding, Parity, Verdict

def made_up(original, quantized, *, numerics=None, **options):
    mean, state = {"w4a16": (0.004, "pass"), "w4a4": (0.5, "fail")}[numerics or "w4a16"]
    found, plain = (Divergence(12, 120, value, 0.1 * value, *[value] * 4, 0.9) for value in (mean, 0.003))
    row = Agreement("text", numerics or "w4a16", found, plain, plain, plain, 1.0, 1.0, 1.0, math.inf, 50, state)
    finding = Finding("answers", "error", "text answers in W4A4", "mean KL 0.5", "at most 0.02", "calibrate again")
    findings = (finding,) if state == "fail" else ()
    verdict = Verdict("agrees", state, f"as {numerics} does")
    return Parity(str(original), str(quantized), "cpu", {"torch": "2"}, verdict, (row,), findings=findings)

@pytest.fixture(autouse=True)
def answering(monkeypatch):
    monkeypatch.setattr(api, "parity", made_up)
"""
BOTH = """
def test_files(quantized_checkpoint, original_checkpoint):
    assert_verified(quantized_checkpoint, source=original_checkpoint)

def test_answers(original_checkpoint, quantized_checkpoint):
    assert_output_parity(original_checkpoint, quantized_checkpoint)
"""


def run(pytester, *arguments, tests=BOTH):
    pytester.makepyfile(ANSWERS + tests)
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", *arguments)


def written(pytester, name="report.json"):
    found = json.loads((pytester.path / name).read_text())
    assert set(found) == {"schema", "judgements", "parities"}
    return found["judgements"], found["parities"]


def states(judgement):
    return {name: verdict["state"] for name, verdict in judgement["verdicts"].items()}


def test_the_judgement_of_the_files_says_what_the_answers_said(pytester, tiny_cache):
    result = run(pytester, tiny_cache, "--q3omni-report=report.json")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["q3omni: judgement of */checkpoint-nvfp4-* written to */report.json"])
    (judgement,), (parity,) = written(pytester)
    assert (states(judgement)["faithful"], states(judgement)["agrees"]) == ("pass", "pass")
    assert judgement["checkpoint"] == parity["quantized"]
    assert parity["agreements"][0]["limit"] is None, "infinite, which JSON is not"
    assert parity_from_json(parity).agreements[0].limit == math.inf


def test_answers_that_failed_are_in_the_report_with_their_findings(pytester, tiny_cache):
    tests = """
def test_answers(original_checkpoint, quantized_checkpoint):
    assert_output_parity(original_checkpoint, quantized_checkpoint, numerics="w4a4")
"""
    result = run(pytester, tiny_cache, "--q3omni-report=report.json", tests=tests)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *assert_output_parity: *", "E *text answers in W4A4: mean KL 0.5; *at most 0.02*"])
    (judgement,), (parity,) = written(pytester)
    assert states(judgement)["agrees"] == "fail"
    assert states(judgement)["packed"] == "pass", "nobody asked about the files, and they are judged all the same"
    assert judgement["findings"][0]["where"] == "text answers in W4A4", "errors first"
    assert parity["verdicts"]["agrees"]["why"] == "as w4a4 does"


def test_workers_send_what_they_heard(pytester, tiny_cache):
    run(pytester, tiny_cache, "--q3omni-report=one.json").assert_outcomes(passed=2)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-n", "2", tiny_cache, "--q3omni-report=two.json")
    result.assert_outcomes(passed=2)
    assert written(pytester, "one.json") == written(pytester, "two.json")


def test_the_page_shows_the_answers(pytester, tiny_cache):
    result = run(pytester, tiny_cache, "--q3omni-report=report.html")
    result.assert_outcomes(passed=2)
    page = (pytester.path / "report.html").read_text()
    assert "Answers beside the original" in page
    assert "as None does" in page, "the verdict's reason"


@pytest.mark.parametrize("order", [["w4a16", "w4a4"], ["w4a4", "w4a16"]])
def test_of_two_comparisons_the_worse_one_counts(pytester, tiny_cache, order):
    tests = f"""
@pytest.mark.parametrize("numerics", {order})
def test_answers(original_checkpoint, quantized_checkpoint, numerics):
    try:
        assert_output_parity(original_checkpoint, quantized_checkpoint, numerics=numerics)
    except AssertionError:
        pass
"""
    run(pytester, tiny_cache, "--q3omni-report=report.json", tests=tests).assert_outcomes(passed=2)
    (judgement,), (parity,) = written(pytester)
    assert states(judgement)["agrees"] == "fail"
    assert [row["numerics"] for row in parity["agreements"]] == ["w4a4"]


def test_without_the_option_nothing_is_kept_and_nothing_is_said(pytester, tiny_cache):
    result = run(pytester, tiny_cache)
    result.assert_outcomes(passed=2)
    assert "judgement of" not in result.stdout.str()


def test_a_checkpoint_that_its_test_removed_is_a_sentence(pytester, tiny_cache):
    tests = """
import shutil

def test_answers(original_checkpoint, quantized_checkpoint, tmp_path):
    mine = shutil.copytree(quantized_checkpoint, tmp_path / "mine")
    assert_output_parity(original_checkpoint, mine)
    shutil.rmtree(mine)
"""
    result = run(pytester, tiny_cache, "--q3omni-report=report.json", tests=tests)
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["q3omni: ERROR: no report: */mine: no such directory*"])
    assert not (pytester.path / "report.json").exists()


# --- joining


@pytest.fixture(scope="module")
def judgement():
    return api.verify(checkpoint_path())


def parity_of(checkpoint, state="pass", findings=()):
    return Parity("original", checkpoint, "cpu", {}, Verdict("agrees", state, "why"), (), findings=findings)


def test_a_parity_belongs_to_the_judgement_of_its_own_checkpoint(judgement):
    other = replace(judgement, checkpoint="elsewhere")
    answers = {each: parity_of(each, state) for each, state in ((judgement.checkpoint, "fail"), ("elsewhere", "pass"))}
    found, parities = reporting.joined([judgement, *answers.values(), other, replace(judgement, checkpoint="third")])
    states = {each.checkpoint: each.verdict("agrees").state for each in found}
    assert states == {judgement.checkpoint: "fail", "elsewhere": "pass", "third": "not checked"}
    assert parities == answers


def test_a_judgement_that_comes_later_loses_no_answers(judgement):
    warning = Finding("answers", "warning", "audio answers", "none", "some", "add some")
    heard = [parity_of(judgement.checkpoint, findings=(warning,)), judgement]
    ((found,), _), ((again,), _) = reporting.joined(heard), reporting.joined(heard[::-1])
    assert found == again
    assert warning in found.findings


def test_a_checkpoint_of_which_only_answers_were_asked_is_judged_by_its_files(judgement, tmp_path):
    mine = shutil.copytree(checkpoint_path(), tmp_path / "mine")
    (found,), _ = reporting.joined([parity_of(str(mine), "fail")])
    assert found.verdict("agrees").state == "fail"
    assert found.verdict("packed") == judgement.verdict("packed")


def rows(parity, number):
    """The parity with so many rows; which ones does not matter here."""
    return replace(parity, agreements=tuple(range(number)))


def test_of_several_parities_of_a_checkpoint_the_worst_counts_then_the_fullest_then_the_last(judgement):
    name = judgement.checkpoint
    better = [
        rows(parity_of(name, "pass"), 9),
        rows(parity_of(name, "not checked"), 8),
        rows(parity_of(name, "fail"), 1),
    ]
    worst = rows(parity_of(name, "fail"), 2)
    for heard in permutations([judgement, *better, worst]):
        (found,), parities = reporting.joined(heard)
        assert parities == {name: worst}
        assert found.verdict("agrees").state == "fail"
    (found,), parities = reporting.joined([judgement, *better[:2][::-1]])
    assert found.verdict("agrees").state == "not checked", "one that passed does not answer for the other"
    last = replace(worst, device="cuda")
    assert reporting.joined([judgement, worst, last])[1] == {name: last}
    assert reporting.joined([judgement, last, worst])[1] == {name: worst}
