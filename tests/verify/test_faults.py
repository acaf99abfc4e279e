"""Every fault trips its check and no other, is located, and its finding says what to do."""

import shutil
from pathlib import Path

import pytest
from sound_checkpoints import SoundCheckpoint, fault_names, judged, load_fault

from pytest_q3omni.records import Judgement
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
    trips_alone(judged(directory, fault.given), fault.check, fault.where)
    if fault.alone and not NEEDS[fault.check]:
        trips_alone(judged(directory, ()), fault.check, fault.where)


def trips_alone(judgement: Judgement, check: str, where: str) -> None:
    errors = [finding for finding in judgement.findings if finding.severity == "error"]
    assert {finding.check for finding in errors} == {check}, "\n".join(map(str, errors))
    assert any(where in finding.where for finding in errors), "\n".join(map(str, errors))
    assert all(finding.found and finding.expected and finding.fix for finding in errors)
    failed = [verdict.name for verdict in judgement.verdicts if verdict.state == "fail"]
    assert failed == [VERDICT[check]]


@pytest.mark.parametrize("base", ["nvfp4-default", "nvfp4-mlp-weight-only", "sharded"])
def test_the_sound_checkpoint_passes(base: str, sound: SoundCheckpoint) -> None:
    for given in ((), ("source",), ("record",), ("source", "record")):
        judgement = judged(sound(base), given)
        assert not [finding for finding in judgement.findings if finding.severity == "error"]
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
