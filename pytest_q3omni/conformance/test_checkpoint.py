"""Is it really 4-bit, whole, and true to its source? Every check and every verdict of `q3omni verify`, an item each.

An item passes where its check found no error and had what it asks for; otherwise its reason says what is missing.
Warnings fail nothing: they stand in pytest's summary, and among the item's properties in a JUnit report.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_q3omni.assertions.outcome import hear
from pytest_q3omni.conformance._judged import judged, told, warn
from pytest_q3omni.conformance._pairs import pytest_generate_tests  # noqa: F401  # parametrizes `pair`
from pytest_q3omni.plugin import options, workers
from pytest_q3omni.records import Judgement
from pytest_q3omni.report.plain import plain
from pytest_q3omni.verify.checks import VERDICTS, Check, checks

pytestmark = pytest.mark.usefixtures("pair")

_ANSWERS = {"source": "faithful", "record": "calibrated", "engine": "loads", "answers": "loads"}
"""What a check needs -> the verdict that says whether it is there."""

_CHECKS = {check.name: check for check in sorted(checks(), key=lambda check: check.name)}


@pytest.fixture
def source(request: pytest.FixtureRequest) -> Path | None:
    """The original, where one is given."""
    try:
        found: Path = request.getfixturevalue("original_checkpoint")
    except pytest.skip.Exception:
        return None
    return found


@pytest.fixture
def judgement(
    quantized_checkpoint: Path,
    source: Path | None,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Judgement:
    """What `verify` says; against the original where one is given."""
    _tell(request, checkpoint=quantized_checkpoint)
    shared = tmp_path_factory.getbasetemp().parent if workers.output(request.config) is not None else None
    found = judged(quantized_checkpoint, source, request.config.stash[options.SETTINGS].engine, shared)
    if isinstance(found, str):
        pytest.fail(f"nothing can be judged: {plain(found)}", pytrace=False)
    hear(found)
    return found


def _tell(request: pytest.FixtureRequest, **properties: object) -> None:
    """Properties of the item in a JUnit report. `record_property` would warn of the default kind of report."""
    request.node.user_properties += [(name, plain(str(value))) for name, value in properties.items()]


@pytest.fixture
def absent(source: Path | None, pytestconfig: pytest.Config) -> dict[str, str]:
    """Verdict -> the option that would give what it lacks, where that is not given."""
    engine = pytestconfig.stash[options.SETTINGS].engine
    wanted = {"faithful": (source, options.ORIGINAL), "loads": (engine, options.ENGINE)}
    return {name: f" ({option})" for name, (given, option) in wanted.items() if given is None}


def _skip_unchecked(judgement: Judgement, name: str, absent: dict[str, str]) -> None:
    verdict = judgement.verdict(name)
    if verdict.state == "not checked":
        pytest.skip(f"not checked: {plain(verdict.why)}{absent.get(name, '')}")


def _condition(check: Check) -> str:
    """The verdict that says whether a check had what it asks for; one that needs no more than files had those."""
    if check.needs:
        return _ANSWERS.get(check.needs, check.verdict)
    return "packed" if check.verdict in _ANSWERS.values() else check.verdict


@pytest.mark.parametrize("name", _CHECKS)
def test_check(name: str, judgement: Judgement, absent: dict[str, str], request: pytest.FixtureRequest) -> None:
    """No error of this check; what each one asks is its property `asks`, and in the reference of checks."""
    check = _CHECKS[name]
    _tell(request, verdict=check.verdict, asks=check.summary)
    if judgement.verdict("packed").state == "not checked":  # what is left of the files was looked at
        _tell(request, incomplete=judgement.verdict("packed").why)
    found = [finding for finding in judgement.findings if finding.check == name]
    errors = [finding for finding in found if finding.severity == "error"]
    for finding in found:
        if finding.severity == "warning":
            _tell(request, warning=finding)
            warn(finding)
    if errors:
        pytest.fail(told(errors), pytrace=False)
    _skip_unchecked(judgement, _condition(check), absent)
    if check.needs == "answers":
        pytest.skip("not asked: needs answers of the engine, `q3omni verify --engine vllm --depth answers`")


@pytest.mark.parametrize("verdict", [name for name in VERDICTS if any(name == of.verdict for of in _CHECKS.values())])
def test_verdict(verdict: str, judgement: Judgement, absent: dict[str, str], request: pytest.FixtureRequest) -> None:
    """The questions that checks answer, each with what it rests on."""
    found = judgement.verdict(verdict)
    _tell(request, why=found.why)
    _skip_unchecked(judgement, verdict, absent)
    if found.state == "fail":
        pytest.fail(f"{verdict}: {plain(found.why)}", pytrace=False)
