"""Every fault trips its check and no other, is located, and its finding says what to do."""

import shutil
from pathlib import Path

import pytest
from sound_checkpoints import SoundCheckpoint, fault_names, judged, load_fault

from pytest_q3omni.records import Finding, Judgement
from pytest_q3omni.verify.checks import checks

pytestmark = pytest.mark.tiny

VERDICT = {check.name: check.verdict for check in checks()}
NEEDS = {check.name: check.needs for check in checks()}


@pytest.mark.parametrize("name", fault_names())
def test_fault(name: str, sound: SoundCheckpoint, tmp_path: Path) -> None:
    module = load_fault(name)
    fault = module.FAULT
    directory = tmp_path / "checkpoint"
    shutil.copytree(sound(fault.base), directory)
    fault.break_(directory)
    trips = warns_alone if fault.severity == "warning" else trips_alone
    trips(judged(directory, fault.given), fault.check, fault.where)
    if fault.alone and not NEEDS[fault.check]:
        trips(judged(directory, ()), fault.check, fault.where)


def trips_alone(judgement: Judgement, check: str, where: str) -> None:
    errors = [finding for finding in judgement.findings if finding.severity == "error"]
    tells(errors, check, where)
    failed = [verdict.name for verdict in judgement.verdicts if verdict.state == "fail"]
    assert failed == [VERDICT[check]]


def warns_alone(judgement: Judgement, check: str, where: str) -> None:
    assert not judgement.failed
    sound = ("expert-coverage",)  # the tiny record's own: some experts saw no audio
    tells([finding for finding in judgement.findings if finding.check not in sound], check, where)


def tells(findings: list[Finding], check: str, where: str) -> None:
    assert {finding.check for finding in findings} == {check}, "\n".join(map(str, findings))
    assert any(where in finding.where for finding in findings), "\n".join(map(str, findings))
    assert all(finding.found and finding.expected and finding.fix for finding in findings)


@pytest.mark.parametrize("base", ["nvfp4-default", "nvfp4-mlp-weight-only", "sharded"])
def test_the_sound_checkpoint_passes(base: str, sound: SoundCheckpoint) -> None:
    for given in ((), ("source",), ("record",), ("source", "record")):
        judgement = judged(sound(base), given)
        assert not [finding for finding in judgement.findings if finding.severity == "error"]
        assert {finding.check for finding in judgement.findings} <= {"expert-coverage"}, "warnings of the tiny record"
        assert not judgement.failed
        asked = {"packed", "consistent", *({"faithful"} if "source" in given else ())}
        assert {verdict.name for verdict in judgement.verdicts if verdict.state == "pass"} >= asked


def test_every_check_is_tripped_by_a_fault() -> None:
    tripped = {load_fault(name).FAULT.check for name in fault_names()}
    assert tripped == set(VERDICT)


@pytest.mark.parametrize("name", fault_names())
def test_a_fault_says_what_it_does(name: str) -> None:
    docstring = load_fault(name).__doc__
    assert docstring
    assert docstring.strip().endswith(".")
