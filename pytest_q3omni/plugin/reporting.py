"""The report of a run: what its tests judged, in one file. Registered only where --q3omni-report is given."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import pytest

from pytest_q3omni.assertions.outcome import heard
from pytest_q3omni.errors import Q3OmniError
from pytest_q3omni.plugin import workers
from pytest_q3omni.plugin.options import REPORT
from pytest_q3omni.records import Judgement, Parity
from pytest_q3omni.schema import SCHEMA, judgement_from_json, judgement_json, parity_from_json, parity_json

_JUDGEMENTS, _PARITIES = "q3omni_judgements", "q3omni_parities"


class Reporting:
    """Collects the judgements of one session, over all workers, and writes them at its end."""

    def __init__(self, config: pytest.Config, file: Path) -> None:
        self._config, self._file = config, file
        self._judged: list[Judgement | Parity] = []
        self._outcome: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        """Hear what the item's assertions judge, in its fixtures, too."""
        token = heard.set(self._judged)
        try:
            return (yield)
        finally:
            heard.reset(token)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what a worker judged."""
        sent = getattr(node, "workeroutput", {})
        self._judged += map(judgement_from_json, sent.get(_JUDGEMENTS, ()))
        self._judged += map(parity_from_json, sent.get(_PARITIES, ()))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """A worker sends its judgements on; the process that prints writes the file.

        A report that was asked for and cannot be written is no success, and must not hide the failures either.
        """
        outgoing = workers.output(self._config)
        if outgoing is not None:
            judgements, parities = _sorted(self._judged)
            outgoing[_JUDGEMENTS] = [judgement_json(judgement) for judgement in judgements]
            outgoing[_PARITIES] = [parity_json(parity) for parity in parities]
            return
        try:
            self._outcome = self._write(*joined(self._judged))
        except OSError as error:
            fix = f"Fix: give {REPORT} a path that can be written"
            self._outcome = [f"ERROR: {error.filename or self._file}: {error.strerror}: no report. {fix}"]
        except Q3OmniError as error:  # a checkpoint that its test removed again
            self._outcome = [f"ERROR: no report: {error}"]
        else:
            return
        session.exitstatus = session.exitstatus or pytest.ExitCode.USAGE_ERROR

    def _write(self, judgements: list[Judgement], parities: dict[str, Parity]) -> list[str]:
        """One JSON file for all, or a page for each; says what is where."""
        if not judgements:
            ways = "assert_verified or assert_output_parity"
            return [f"nothing was judged (no {ways} ran): {self._file} not written"]
        self._file.parent.mkdir(parents=True, exist_ok=True)
        if self._file.suffix.lower() == ".json":
            found = {
                "schema": SCHEMA,
                "judgements": [judgement_json(judgement) for judgement in judgements],
                "parities": [parity_json(parity) for parity in parities.values()],
            }
            self._file.write_text(json.dumps(found, indent=2, allow_nan=False) + "\n", encoding="utf-8")
            return [f"judgement of {judgement.checkpoint} written to {self._file}" for judgement in judgements]
        return [
            self._write_page(number, judgement, parities.get(judgement.checkpoint))
            for number, judgement in enumerate(judgements, start=1)
        ]

    def _write_page(self, number: int, judgement: Judgement, parity: Parity | None) -> str:
        from pytest_q3omni import api
        from pytest_q3omni.report import html

        file = self._file if number == 1 else self._file.with_stem(f"{self._file.stem}-{number}")
        record = api.find_record(judgement.checkpoint)
        file.write_text(html.render_judgement(judgement, record=record, parity=parity), encoding="utf-8")
        return f"judgement of {judgement.checkpoint} written to {file}"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say where the report is."""
        for line in self._outcome:
            terminalreporter.write_line(f"q3omni: {line}")


def joined(judged: Iterable[Judgement | Parity]) -> tuple[list[Judgement], dict[str, Parity]]:
    """One judgement and at most one parity per checkpoint; the judgement says what the parity found. A checkpoint of
    which only the answers were asked is judged by its own files.

    Of several parities the worst one counts: a failure in one numerics is not undone by a success in another.
    """
    from pytest_q3omni import api
    from pytest_q3omni.parity.verdict import with_parity

    judgements, parities = _sorted(judged)
    best = {judgement.checkpoint: judgement for judgement in merged(judgements)}
    worst = {parity.quantized: parity for parity in sorted(parities, key=_weight)}
    for checkpoint, parity in worst.items():
        best[checkpoint] = with_parity(best.get(checkpoint) or api.verify(checkpoint), parity)
    return [best[checkpoint] for checkpoint in sorted(best)], worst


def _weight(parity: Parity) -> tuple[int, int]:
    """By state, then by rows; sorting keeps the order of equals, so that the last of them counts."""
    return ("pass", "not checked", "fail").index(parity.verdict.state), len(parity.agreements)


def _sorted(judged: Iterable[Judgement | Parity]) -> tuple[list[Judgement], list[Parity]]:
    judgements, parities = list[Judgement](), list[Parity]()
    for each in judged:
        if isinstance(each, Parity):
            parities.append(each)
        else:
            judgements.append(each)
    return judgements, parities


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
