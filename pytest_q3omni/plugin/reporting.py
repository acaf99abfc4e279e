"""The report of a run: what its tests judged, in one file. Registered only where --q3omni-report is given."""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_q3omni import assertions
from pytest_q3omni.plugin import workers
from pytest_q3omni.plugin.options import REPORT
from pytest_q3omni.records import CalibrationRecord, Facts, Finding, Judgement, StageSize, Verdict
from pytest_q3omni.schema import SCHEMA, judgement_json

_SENT = "q3omni_judgements"


class Reporting:
    """Collects the judgements of one session, over all workers, and writes them at its end."""

    def __init__(self, config: pytest.Config, file: Path) -> None:
        self._config, self._file = config, file
        self._judged: list[Judgement] = []
        self._outcome: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        """Hear what the item's assertions judge, in its fixtures, too."""
        token = assertions._judged.set(self._judged)
        try:
            return (yield)
        finally:
            assertions._judged.reset(token)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what a worker judged."""
        self._judged += map(_from_json, getattr(node, "workeroutput", {}).get(_SENT, ()))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """A worker sends its judgements on; the process that prints writes the file.

        A report that was asked for and cannot be written is no success, and must not hide the failures either.
        """
        outgoing = workers.output(self._config)
        if outgoing is not None:
            outgoing[_SENT] = [judgement_json(judgement) for judgement in self._judged]
        else:
            try:
                self._outcome = self._write(merged(self._judged))
            except OSError as error:
                fix = f"Fix: give {REPORT} a path that can be written"
                self._outcome = [f"ERROR: {error.filename or self._file}: {error.strerror}: no report. {fix}"]
                session.exitstatus = session.exitstatus or pytest.ExitCode.USAGE_ERROR

    def _write(self, judgements: list[Judgement]) -> list[str]:
        """One JSON file for all, or a page for each; says what is where."""
        if not judgements:
            return [f"nothing was judged (no assert_verified ran): {self._file} not written"]
        self._file.parent.mkdir(parents=True, exist_ok=True)
        if self._file.suffix.lower() == ".json":
            found = {"schema": SCHEMA, "judgements": [judgement_json(judgement) for judgement in judgements]}
            self._file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
            return [f"judgement of {judgement.checkpoint} written to {self._file}" for judgement in judgements]
        return [self._write_page(number, judgement) for number, judgement in enumerate(judgements, start=1)]

    def _write_page(self, number: int, judgement: Judgement) -> str:
        from pytest_q3omni.report import html

        file = self._file if number == 1 else self._file.with_stem(f"{self._file.stem}-{number}")
        file.write_text(html.render_judgement(judgement, record=_record(judgement)), encoding="utf-8")
        return f"judgement of {judgement.checkpoint} written to {file}"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say where the report is."""
        for line in self._outcome:
            terminalreporter.write_line(f"q3omni: {line}")


def merged(judgements: Iterable[Judgement]) -> list[Judgement]:
    """One judgement per checkpoint: the one that checked most, of equals the last."""
    best: dict[str, Judgement] = {}
    for judgement in judgements:
        known = best.get(judgement.checkpoint)
        if known is None or _checked(judgement) >= _checked(known):
            best[judgement.checkpoint] = judgement
    return [best[checkpoint] for checkpoint in sorted(best)]


def _checked(judgement: Judgement) -> int:
    return sum(verdict.state != "not checked" for verdict in judgement.verdicts)


def _record(judgement: Judgement) -> CalibrationRecord | None:
    """The calibration record that the checkpoint brings, for the page's table of experts."""
    from pytest_q3omni import api
    from pytest_q3omni.errors import Q3OmniError

    try:
        return api.load_record(judgement.checkpoint)
    except Q3OmniError:
        return None  # none, or a damaged one: the judgement says so


def _from_json(data: Mapping[str, Any]) -> Judgement:
    """The inverse of `judgement_json`: workers send plain data."""
    facts = dict(data["facts"])
    facts["stages"] = {name: StageSize(**size) for name, size in facts["stages"].items()}
    errors = {name: (_number(of["relative"]), _number(of["worst_block"])) for name, of in data["tensor_errors"].items()}
    return Judgement(
        checkpoint=data["checkpoint"],
        verdicts=tuple(Verdict(name, of["state"], of["why"]) for name, of in data["verdicts"].items()),
        findings=tuple(Finding(**finding) for finding in data["findings"]),
        facts=Facts(**facts),
        tensor_errors=errors,
    )


def _number(value: float | None) -> float:
    return math.inf if value is None else value
