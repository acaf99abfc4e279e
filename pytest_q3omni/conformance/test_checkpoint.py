"""Is it really 4-bit, whole, and true to its source? Every check and every verdict of `q3omni verify`, an item each."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from pytest_q3omni import api
from pytest_q3omni.assertions.outcome import hear
from pytest_q3omni.conformance._pairs import pytest_generate_tests  # noqa: F401  # parametrizes `pair`
from pytest_q3omni.records import Judgement, Verdict
from pytest_q3omni.registry import load, names

pytestmark = pytest.mark.usefixtures("pair")

CHECKS = "pytest_q3omni.verify.checks"
_ANSWERS = {"source": "faithful", "record": "calibrated"}  # what a check needs -> the verdict that says if it is there
_OPTION = {"faithful": " (--q3omni-original)"}
VERDICTS = ("packed", "consistent", "faithful", "calibrated")


@cache
def _judge(checkpoint: Path, source: Path | None) -> Judgement:
    """Once per pair and process: checks explain each other's findings away, so they run together."""
    return api.verify(checkpoint, source=source)


@pytest.fixture
def judgement(quantized_checkpoint: Path, request: pytest.FixtureRequest) -> Judgement:
    """What `verify` says; against the original where one is given."""
    try:
        source: Path | None = request.getfixturevalue("original_checkpoint")
    except pytest.skip.Exception:
        source = None
    found = _judge(quantized_checkpoint, source)
    hear(found)
    return found


def _skip_unchecked(verdict: Verdict) -> None:
    if verdict.state == "not checked":
        pytest.skip(f"not checked: {verdict.why}{_OPTION.get(verdict.name, '')}")


@pytest.mark.parametrize("check", names(CHECKS))
def test_check(check: str, judgement: Judgement) -> None:
    """No error of this check; `q3omni verify --help` leads to what each one asks."""
    needs = load(CHECKS, check).CHECK.needs
    if needs:
        _skip_unchecked(judgement.verdict(_ANSWERS[needs]))
    errors = [str(found) for found in judgement.findings if (found.check, found.severity) == (check, "error")]
    if errors:
        pytest.fail("\n".join(errors), pytrace=False)


@pytest.mark.parametrize("verdict", VERDICTS)
def test_verdict(verdict: str, judgement: Judgement) -> None:
    """The questions that files can answer, each with what it rests on."""
    found = judgement.verdict(verdict)
    _skip_unchecked(found)
    if found.state == "fail":
        pytest.fail(f"{verdict}: {found.why}", pytrace=False)
