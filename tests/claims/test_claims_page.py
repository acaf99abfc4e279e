"""The page has a row for every claim and no other, and what makes it finds broken claims, rows and runs."""

import ast
import dataclasses
import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import gpu_runs
import pytest
import test_claims_speed as speed
from outcomes import AGAIN, PAGE, STATES, Outcome, Row, difference, rows_of

pytestmark = pytest.mark.tiny

HERE = Path(__file__).parent
ROW = Row("Sizes", "four_times", "FP4 | four times.", "refuted", "3.56x | at most", "vLLM 0.32.0")


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("claims", PAGE.with_suffix(".py"))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["claims"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def made() -> Outcome:
    return Outcome("Sizes", "four_times", "FP4 makes it four times smaller.")


def claims() -> list[str]:
    """The tests that ask for an outcome, without `test_`."""
    names = []
    for file in sorted(HERE.glob("test_claims_*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            asks = isinstance(node, ast.FunctionDef) and "outcome" in [argument.arg for argument in node.args.args]
            if asks and node.name.startswith("test_"):
                names.append(node.name.removeprefix("test_"))
    return names


def test_every_claim_has_a_row_and_no_other_has(page: str) -> None:
    assert len(claims()) >= 40
    assert sorted(rows_of(page)) == sorted(claims()), AGAIN


def test_a_name_selects_its_own_test_alone() -> None:
    names = claims()
    assert {name: [other for other in names if name in other] for name in names} == {name: [name] for name in names}


def test_the_counts_are_those_of_the_rows(page: str) -> None:
    counts = Counter(row.state for row in rows_of(page).values())
    assert set(counts) <= set(STATES)
    told = ", ".join(f"{counts[state]} {state}" for state in STATES)
    assert f"{sum(counts.values())} claims: {told}." in page, AGAIN


def test_the_script_runs_every_file_of_claims(script: ModuleType) -> None:
    files = {file.stem.removeprefix("test_claims_") for file in HERE.glob("test_claims_*.py")}
    assert set(script.FILES) == files - {"page"}


def test_a_page_is_read_as_it_is_written(script: ModuleType) -> None:
    other = dataclasses.replace(ROW, topic="Speed", name="fast", state="open")
    assert list(rows_of(script.page([ROW, other])).values()) == [ROW, other]


# What decides


def test_a_claim_is_refuted_only_by_a_check_that_fails(made: Outcome) -> None:
    with pytest.raises(AssertionError, match="What would confirm it passes now"), made.refutes("3.56x"):
        assert made
    with made.refutes("3.56x"):
        raise AssertionError
    assert (made.row.state, made.row.finding) == ("refuted", "3.56x")


def test_another_error_refutes_nothing(made: Outcome) -> None:
    with pytest.raises(KeyError), made.refutes("3.56x"):
        raise KeyError
    with pytest.raises(ValueError, match="a typo"), made.refutes("3.56x", ValueError, match="no such format"):
        raise ValueError("a typo")
    with pytest.raises(AssertionError, match="decided nothing"):
        _ = made.row


def test_a_claim_is_confirmed_only_by_a_check_that_passes(made: Outcome) -> None:
    with pytest.raises(AssertionError, match="not four"), made.confirms("4x"):
        raise AssertionError("not four")
    with pytest.raises(AssertionError, match="decided nothing"):
        _ = made.row


def test_a_claim_is_decided_once(made: Outcome) -> None:
    made.open("nobody ran it.", needs="a Thor.")
    with pytest.raises(AssertionError, match="decides twice: open, then confirmed"), made.confirms("4x"):
        pass
    assert made.row.finding == "nobody ran it. Needs: a Thor."


def test_a_claim_says_something() -> None:
    def test_silent() -> None:
        pass

    with pytest.raises(AssertionError, match="needs a docstring"):
        Outcome.of(test_silent)


# What compares


@pytest.mark.parametrize("field", ["topic", "says", "state", "finding"])
def test_a_row_that_says_otherwise_is_out_of_date(field: str, script: ModuleType) -> None:
    told = script.page([dataclasses.replace(ROW, **{field: "open"})])
    assert "out of date" in difference(ROW, told)
    assert AGAIN in difference(ROW, told)


def test_a_claim_without_a_row_is_named(script: ModuleType) -> None:
    assert "no row for four_times" in difference(ROW, script.page([]))


def test_other_releases_may_change_a_figure_and_no_state(script: ModuleType) -> None:
    elsewhere = {"used": "vLLM 0.33.0", "finding": "3.6x"}
    assert not difference(ROW, script.page([dataclasses.replace(ROW, **elsewhere)]))
    assert difference(ROW, script.page([dataclasses.replace(ROW, **elsewhere, state="confirmed")]))


def test_a_test_that_cannot_run_keeps_its_row(script: ModuleType) -> None:
    found = script.Gatherer()
    found.collected, found.skipped = ["four_times"], ["tests/claims/test_claims_vllm.py::test_four_times"]
    assert script.merged(found, {"four_times": ROW, "gone": dataclasses.replace(ROW, name="gone")}) == [ROW]
    found.rows = [dataclasses.replace(ROW, state="confirmed")]
    assert script.merged(found, {"four_times": ROW}) == found.rows


# Runs on a GPU


@pytest.fixture
def made_up(tmp_path: Path) -> list[gpu_runs.Run]:
    """A made-up run, distilled and read as a real one is."""
    sys.path[:0] = [str(PAGE.parent), str(HERE.parent / "serve")]
    try:
        import made_up_run
        import results
    finally:
        del sys.path[:2]
    (tmp_path / "device.json").write_text(json.dumps(results.distil(made_up_run.run())), encoding="utf-8")
    return gpu_runs.runs(tmp_path)


def test_no_run_is_no_error(tmp_path: Path) -> None:
    assert gpu_runs.runs(tmp_path / "nowhere") == []


def test_a_distilled_run_is_read(made_up: list[gpu_runs.Run]) -> None:
    (run,) = made_up
    assert run.name == "Made-up Device 9000 (random weights)"
    assert run.decode == ((1, 40.0, 80.0), (8, 100.0, 250.0), (32, 200.0, 600.0), (64, 300.0, 900.0))
    assert run.weight_bytes == (60 << 30, 20 << 30)


def test_a_run_decides_what_was_open(
    monkeypatch: pytest.MonkeyPatch, made: Outcome, made_up: list[gpu_runs.Run]
) -> None:
    monkeypatch.setattr(speed, "runs", lambda: made_up)
    speed.test_memory_when_served(made)
    assert (made.row.state, made.row.used) == ("refuted", "Made-up Device 9000")
    assert "60.00 GiB in BF16, 20.00 GiB packed, 3.00x, on Made-up Device 9000 (random weights)" in made.row.finding
    assert speed.told(made_up[0]).startswith("2.00x at 1, 2.50x at 8, 3.00x at 32, 3.00x at 64 on Made-up")


def test_a_run_that_is_four_times_smaller_is_no_refutation(
    monkeypatch: pytest.MonkeyPatch, made: Outcome, made_up: list[gpu_runs.Run]
) -> None:
    monkeypatch.setattr(speed, "runs", lambda: [dataclasses.replace(made_up[0], weight_bytes=(66 << 30, 16 << 30))])
    with pytest.raises(AssertionError, match="What would confirm it passes now"):
        speed.test_memory_when_served(made)


def test_without_a_run_it_stays_open(monkeypatch: pytest.MonkeyPatch, made: Outcome) -> None:
    monkeypatch.setattr(speed, "runs", list)
    speed.test_memory_when_served(made)
    assert made.row.state == "open"
