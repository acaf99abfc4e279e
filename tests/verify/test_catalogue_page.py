"""docs/fault-catalogue.md has every fault, and says of a sample what the judge says now."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from sound_checkpoints import Sound, fault_names

pytestmark = pytest.mark.tiny

SCRIPT = Path(__file__).parents[2] / "docs" / "fault_catalogue.py"
AGAIN = "the page is out of date. Fix: python docs/fault_catalogue.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fault_catalogue", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["fault_catalogue"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page() -> str:
    return SCRIPT.with_name("fault-catalogue.md").read_text(encoding="utf-8")


def test_every_fault_has_a_row_and_no_other_has(page: str) -> None:
    assert sorted(re.findall(r"^\| `(\w+)`:", page, re.MULTILINE)) == fault_names(), AGAIN


@pytest.mark.parametrize("name", fault_names()[::25])
def test_a_row_is_what_the_judge_says_now(
    name: str, page: str, script: ModuleType, sound: Sound, tmp_path: Path
) -> None:
    assert script.row(name, sound, tmp_path / "copy").line in page.splitlines(), AGAIN


def test_the_totals_are_those_of_the_rows(page: str) -> None:
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    located = sum("| located |" in row for row in rows)
    alone = sum(row.endswith("| yes |") for row in rows)
    assert f"| **all** | {len(rows)} | {len(rows)} | {located} | {alone} |" in page, AGAIN
    assert not any("**missed**" in row for row in rows)


def test_no_false_alarm_is_on_the_page(page: str) -> None:
    assert int(re.search(r"^(\d+) checkpoints that must pass; false alarms: 0\.$", page, re.MULTILINE)[1]) >= 15
