"""docs/verdicts-by-fault.md has every fault whose answers can differ, and says of them what the verdicts say now."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.tiny

SCRIPT = Path(__file__).parents[2] / "docs" / "verdicts_by_fault.py"
AGAIN = "the page is out of date. Fix: python docs/verdicts_by_fault.py"


@pytest.fixture(scope="module")
def page() -> str:
    return SCRIPT.with_name("verdicts-by-fault.md").read_text(encoding="utf-8")


def test_every_fault_has_a_row_and_no_other_has(page: str) -> None:
    faults = compared()
    assert sorted(re.findall(r"^\| `(\w+)`:", page, re.MULTILINE)) == sorted(faults), AGAIN


def test_every_fault_is_seen_or_is_a_warning(page: str) -> None:
    unseen = [line for line in page.splitlines() if line.startswith("| `") and "**fail**" not in line]
    assert {re.match(r"\| `(\w+)`", line)[1] for line in unseen} == warnings()


def compared() -> set[str]:
    """The page's own rule, spelled out again: damaged tensors and records of what we pack."""
    from parity_runs import load_fault
    from sound_checkpoints import OWN_BASES, fault_names

    elsewhere = {"files", "configuration", "companions", "card"}
    faults = {name: load_fault(name).FAULT for name in fault_names()}
    return {name for name, fault in faults.items() if fault.base in OWN_BASES and fault.group not in elsewhere}


def warnings() -> set[str]:
    """Those that are one with the source at hand, too, as on this page."""
    from parity_runs import load_fault

    faults = {name: load_fault(name).FAULT for name in compared()}
    return {name for name, fault in faults.items() if fault.severity == "warning" and "source" in fault.given}


@pytest.mark.parametrize(
    "name", ["down_input_scale_100_times_too_small", "expert_global_scale_4_times_too_large", "vocoder_silent"]
)
def test_a_row_is_what_the_verdicts_say_now(
    name: str, page: str, sound: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    for module in ("torch", "transformers", "modelopt"):
        pytest.importorskip(module, reason="needs the quantize extra: pip install pytest-q3omni[quantize]")
    spec = importlib.util.spec_from_file_location("verdicts_by_fault", SCRIPT)
    script = sys.modules["verdicts_by_fault"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    found = script.row(name, sound, request.getfixturevalue("reference"), tmp_path)
    assert found.line in page.splitlines(), AGAIN
