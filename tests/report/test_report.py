"""Reports for terminals and machines: every figure of the judgement appears, and names stay names."""

import json

import pytest

from pytest_q3omni.records import CalibrationRecord, Facts, Finding, Judgement, StageSize, Verdict
from pytest_q3omni.report import json as as_json
from pytest_q3omni.report import terminal

pytestmark = pytest.mark.tiny

HOSTILE = "<script>alert(1)</script>[bold]x[/bold]\x1b[31m"


def judgement(where: str = "thinker.model.layers.0.mlp.experts.3.up_proj", findings: int = 1) -> Judgement:
    stages = {"thinker": StageSize(1000, 2000, 600, 900), "code2wav": StageSize(100, 200, 200, 0)}
    facts = Facts(1100, 800, 8 * 800 / 1100, 2200 / 800, 2.8, 900 / 1100, 0.9, stages)
    finding = Finding("shared-scales", "error", where, "global scale 0.25", "0.5, as gate_proj has", "pack it again")
    return Judgement(
        checkpoint="some/checkpoint",
        verdicts=(Verdict("packed", "pass", "all bytes as planned"), Verdict("loads", "not checked", "needs vLLM")),
        findings=(finding,) * findings,
        facts=facts,
        tensor_errors={where: (0.095, float("inf"))},
    )


def record() -> CalibrationRecord:
    tokens = {
        "text": {"thinker.model.layers.0.mlp.experts": (5, 0, 7)},
        "audio": {"thinker.model.layers.0.mlp.experts": (1, 2, 3)},
    }
    return CalibrationRecord("nvfp4-default", "f", {"a": 1.0}, tokens, 60, {"text": 60, "audio": 20})


def test_names_from_a_checkpoint_are_text() -> None:
    shown = terminal.render_judgement(judgement(HOSTILE))
    assert "[bold]x[/bold]" in shown, "rich does not take it for markup"
    assert "\x1b[31m" not in shown, "nor does the terminal get control codes"


def test_json_is_json_even_where_an_error_is_infinite() -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    answer = json.loads(as_json.render_judgement(judgement()), parse_constant=refuse)
    assert answer["tensor_errors"]["thinker.model.layers.0.mlp.experts.3.up_proj"] == {
        "relative": 0.095,
        "worst_block": None,
    }
    assert answer["verdicts"]["loads"] == {"state": "not checked", "why": "needs vLLM"}
    assert set(answer["findings"][0]) == {"check", "severity", "where", "found", "expected", "fix"}


def test_the_terminal_says_how_many_findings_it_leaves_out_and_ends_with_the_verdicts() -> None:
    shown = terminal.render_judgement(judgement(findings=45))
    assert shown.count("found     global scale 0.25") == 40
    assert "and 5 more findings" in shown
    assert shown.rindex("packed") > shown.rindex("pack it again")


def test_the_record_as_a_table() -> None:
    shown = terminal.render_record(record())
    assert "60 of 60 conversations passed" in shown
    assert "audio" in shown
