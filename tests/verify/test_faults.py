"""Every fault trips its check and no other, is located, and its finding says what to do."""

from pathlib import Path

import pytest
from sound_checkpoints import BASES, Sound, fault_names, judged, load_fault

from pytest_q3omni.records import Finding, Judgement
from pytest_q3omni.verify.checks import checks

pytestmark = pytest.mark.tiny

VERDICT = {check.name: check.verdict for check in checks()}
NEEDS = {check.name: check.needs for check in checks()}
CLASSES = {
    *("files", "silent non-quantization", "scales", "packing", "configuration", "companions", "other stages"),
    *("calibration", "card"),
}
Known = set[tuple[str, str, str]]


@pytest.mark.parametrize("name", fault_names())
def test_fault(name: str, sound: Sound, tmp_path: Path) -> None:
    module = load_fault(name)
    fault = module.FAULT
    original = sound.original(fault.base)
    directory = sound.copy(fault.base, tmp_path / "copy")
    fault.break_(directory)
    trips = warns_alone if fault.severity == "warning" else trips_alone
    for given in (fault.given, ()) if fault.alone and not NEEDS[fault.check] else (fault.given,):
        known = known_of(sound, fault.base, given) if fault.severity == "warning" else set()
        trips(judged(directory, given, original), fault.check, fault.where, known)


def known_of(sound: Sound, base: str, given: tuple[str, ...]) -> Known:
    """Warnings of the sound checkpoint."""
    return {place(finding) for finding in judged(sound(base), given, sound.original(base)).findings}


def place(finding: Finding) -> tuple[str, str, str]:
    return finding.check, finding.where, finding.severity


def trips_alone(judgement: Judgement, check: str, where: str, known: Known) -> None:
    errors = [finding for finding in judgement.findings if finding.severity == "error"]
    tells(errors, check, where)
    failed = [verdict.name for verdict in judgement.verdicts if verdict.state == "fail"]
    assert failed == [VERDICT[check]]


def warns_alone(judgement: Judgement, check: str, where: str, known: Known) -> None:
    """`known`: warnings of the sound checkpoint, such as experts that saw no audio."""
    assert not judgement.failed
    tells([finding for finding in judgement.findings if place(finding) not in known], check, where)


def tells(findings: list[Finding], check: str, where: str) -> None:
    assert {finding.check for finding in findings} == {check}, "\n".join(map(str, findings))
    assert any(where in finding.where for finding in findings), "\n".join(map(str, findings))
    assert all(finding.found and finding.expected and finding.fix for finding in findings)


@pytest.mark.parametrize("base", ["nvfp4-default", "nvfp4-mlp-weight-only", "sharded"])
def test_what_we_pack_has_no_warnings(base: str, sound: Sound) -> None:
    findings = judged(sound(base)).findings
    assert {finding.check for finding in findings} <= {"expert-coverage"}, "warnings of the tiny record"


@pytest.mark.parametrize("base", sorted(BASES))
def test_the_hashes_we_write_find_nothing(base: str, sound: Sound) -> None:
    """A checkpoint of anyone's has no `provenance.json`: no fault of the catalogue may need one."""
    assert not list(sound(base).glob("**/provenance.json"))


def test_every_check_is_tripped_by_a_fault() -> None:
    """But for those that ask an engine's loader: test_loads.py trips them."""
    tripped = {load_fault(name).FAULT.check for name in fault_names()}
    asked = {check.name for check in checks() if check.needs not in ("engine", "answers")}
    assert tripped == asked


@pytest.mark.parametrize("name", fault_names())
def test_a_fault_says_what_it_does(name: str) -> None:
    module = load_fault(name)
    assert module.__doc__
    assert module.__doc__.strip().endswith(".")
    assert module.FAULT.group in CLASSES


def test_every_class_has_faults() -> None:
    assert {load_fault(name).FAULT.group for name in fault_names()} == CLASSES
