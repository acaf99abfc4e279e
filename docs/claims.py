"""The investigation's claims: writes `claims.md` beside this file. About a minute on one core.

    python docs/claims.py

Every row is decided by a test of `tests/claims`, here and now, or it keeps what the page says: a test that cannot run
here (no torch, no vLLM) is skipped, and its row keeps the releases that it was established with.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

PAGE = Path(__file__).with_name("claims.md")
TESTS = Path(__file__).parents[1] / "tests" / "claims"
sys.path.insert(0, str(TESTS))

from outcomes import STATES, WRITER, Row, rows_of  # noqa: E402

HEAD = """# The investigation's claims

This project started from an investigation of Qwen3-Omni-30B in FP4 on a Jetson AGX Thor. Each of its claims that can be
checked is a test here:

- **confirmed**: the test that says so passes.
- **refuted**: the test that would confirm it is seen to fail, with this figure.
- **open**: nothing here can decide it, and the row says what would.

`pytest tests/claims -k NAME`, with the name in a row's last column, shows it again. *With* names the releases that it
was established with; with others the state still has to be the same. Sizes are of the full-size model. What needs
weights was seen on [the built-in tiny model](../pytest_q3omni/omni/tiny/checkpoint/README.md), which has all stages.

Made by `python docs/claims.py` from test results; a test that decides otherwise than this page fails.
"""
FILES = ("sizes", "speed", "modelopt", "export", "vllm", "model", "quality")
"""`tests/claims/test_claims_*.py` in the order of the page."""
TABLE = "| it says | state | what is true | with | name |\n|---|---|---|---|---|"


class Gatherer:
    """A pytest plugin: the rows that tests decide, the tests that cannot run, and those that fail."""

    __name__ = WRITER

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.skipped: list[str] = []
        self.collected: list[str] = []
        self.failed: list[str] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        asking = (item for item in session.items if "outcome" in getattr(item, "fixturenames", ()))
        self.collected += [item.name.removeprefix("test_") for item in asking]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:  # a whole module, of which not even the tests' names are known
            self.skipped.append(report.nodeid)
        elif report.failed:
            self.failed.append(report.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            self.rows += [Row(**told) for name, told in report.user_properties if name == "claim"]
        if report.skipped:
            self.skipped.append(report.nodeid)
        elif report.failed:
            self.failed.append(report.nodeid)


def gather() -> Gatherer:
    """Run the tests of all claims."""
    found = Gatherer()
    files = [str(TESTS / f"test_claims_{name}.py") for name in FILES]
    pytest.main(["-q", "-m", "tiny", "-p", "no:cacheprovider", "-p", "no:xdist", *files], plugins=[found])
    return found


def merged(found: Gatherer, before: dict[str, Row]) -> list[Row]:
    """The rows of this run, and in their old place those of tests that could not run; by topic."""
    now = {row.name: row for row in found.rows}
    silent = any("::" not in place for place in found.skipped)  # whole modules: their names are the page's alone
    kept = [row for row in before.values() if row.name not in now and (silent or row.name in found.collected)]
    topics = list(dict.fromkeys(row.topic for row in (*before.values(), *found.rows)))
    rows = [*found.rows, *kept]
    return sorted(rows, key=lambda row: topics.index(row.topic))  # stable: as the tests stand within a topic


def page(rows: list[Row]) -> str:
    """The whole page."""
    counts = Counter(row.state for row in rows)
    told = ", ".join(f"{counts[state]} {state}" for state in STATES)
    parts = [HEAD, f"{len(rows)} claims: {told}.\n"]
    for topic in dict.fromkeys(row.topic for row in rows):
        parts.append("\n".join([f"## {topic}\n", TABLE, *(row.line for row in rows if row.topic == topic), ""]))
    return "\n".join(parts)


def main() -> int:
    """Write the page; 1 where a test fails, since a claim that is not decided has no row."""
    found = gather()
    if found.failed:
        sys.stderr.write("nothing written; these failed: " + ", ".join(found.failed) + "\n")
        return 1
    before = rows_of(PAGE.read_text(encoding="utf-8")) if PAGE.exists() else {}
    PAGE.write_text(page(merged(found, before)), encoding="utf-8")
    for name in found.skipped:
        sys.stderr.write(f"skipped, its rows kept: {name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
