"""All checks: one file each, found by their file's name, documented, in an order that tells each fault once."""

import subprocess
import sys

import pytest

from pytest_q3omni.records import Finding
from pytest_q3omni.registry import load, names
from pytest_q3omni.verify.checks import VERDICTS, Check, Fault, checks
from pytest_q3omni.verify.subject import Subject

pytestmark = pytest.mark.tiny

PACKAGE = "pytest_q3omni.verify.checks"


def test_every_file_is_a_check() -> None:
    assert {check.name for check in checks()} == set(names(PACKAGE))


@pytest.mark.parametrize("check", checks(), ids=lambda check: check.name)
def test_a_check_is_named_documented_and_placed(check: Check) -> None:
    assert load(PACKAGE, check.name).CHECK is check
    assert check.verdict in VERDICTS[:5]
    assert check.needs in ("", "source", "record", "engine", "answers")
    assert check.summary.endswith((".", ":"))
    assert len((check.description or "").split("\n\n")) > 1, "the docstring says why it matters"
    assert set(check.after) <= set(names(PACKAGE))


def test_a_check_may_be_imported_before_all_of_them_are_asked_for() -> None:
    code = f"import {PACKAGE}.names; from {PACKAGE} import checks; print(len(checks()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == len(checks())


def test_checks_come_after_those_that_explain_them() -> None:
    position = {check.name: number for number, check in enumerate(checks())}
    assert all(position[earlier] < position[check.name] for check in checks() for earlier in check.after)


def test_a_finding_marks_its_place_before_the_next_is_looked_for() -> None:
    seen: list[tuple[str, ...]] = []

    class Blamed:
        def blame(self, *places: str) -> None:
            seen.append(places)

    def find(subject: Subject):
        yield Fault("a", "x", "y", "z", blames=("b",))
        assert seen == [("a", "b")]
        yield Fault("c", "x", "y", "z", "warning")

    check = Check("some-check", "packed", "One line.\n\nMore.", find)
    findings = list(check.run(Blamed()))  # type: ignore[arg-type]
    assert findings[0] == Finding("some-check", "error", "a", "x", "y", "z")
    assert seen == [("a", "b")], "a warning explains nothing away"
    assert check.summary == "One line."
