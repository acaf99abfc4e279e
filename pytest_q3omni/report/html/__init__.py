"""One HTML file, offline: verdicts, findings, sizes, answers, speech, weight errors and tokens per expert.

No script and nothing from the network: inline CSS, inline SVG, and PNG as data URIs. Every name comes from a file of a
stranger and is escaped; what reaches a style or a path is a number that was computed here. Every figure is in the JSON
forms, too: `q3omni verify` and `q3omni parity` with `--format json`, and the checkpoint's `q3omni/record.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_q3omni import __version__
from pytest_q3omni.records import CalibrationRecord, Judgement, Parity, Plan, Verdict
from pytest_q3omni.report.html import answers, coverage, figures, inputs, sizes, speech, weights

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["render_judgement"]

_TEMPLATES = Path(__file__).with_name("templates")


def render_judgement(
    judgement: Judgement,
    *,
    plan: Plan | None = None,
    record: CalibrationRecord | None = None,
    parity: Parity | None = None,
) -> str:
    """The report as one page; each of plan, record and parity adds what it knows.

    The judgement has the parity's verdict and findings already (`parity.verdict.with_parity`).
    """
    named = frozenset(finding.where for finding in judgement.findings)
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            judgement=judgement,
            version=__version__,
            outcome=_outcome(judgement.verdicts),
            plan=plan,
            record=record,
            parity=parity,
            layers=sizes.layers(judgement.facts.layers),
            weights=weights.weights(judgement.tensor_errors, named),
            coverage=None if record is None else coverage.coverage(record),
            answers=None if parity is None else answers.answers(parity.agreements),
            inputs=None if parity is None else inputs.inputs(parity.inputs, named),
            speech=() if parity is None else tuple(map(speech.speech, parity.speech)),
        )
    )


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_plain,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: Mapping[str, object] = {
        "thousands": lambda number: f"{number:,}",
        "percent": lambda share: f"{100 * share:.2f} %",
        "size": figures.size,
        "number": figures.number,
        "breakable": _breakable,
        "flag": lambda state: {"pass": "✓", "fail": "✗"}.get(state, "–"),
    }
    environment.filters.update(filters)
    return environment


def _plain(value: object) -> object:
    """Control and direction characters of a name are shown, not obeyed. Markup, a subclass of str, stays."""
    if type(value) is not str:
        return value
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in value)


def _breakable(name: str) -> object:
    """The name, escaped, with a place to break the line after each dot."""
    from markupsafe import Markup, escape

    return Markup(str(escape(_plain(name))).replace(".", ".<wbr>"))


def _outcome(verdicts: tuple[Verdict, ...]) -> Verdict:
    """All verdicts in one: failed where one failed, passed where one passed and none failed."""
    failed = [verdict.name for verdict in verdicts if verdict.state == "fail"]
    passed = sum(verdict.state == "pass" for verdict in verdicts)
    missing = [verdict.name for verdict in verdicts if verdict.state == "not checked"]
    rest = f"; not checked: {', '.join(missing)}" if missing else ""
    if failed:
        return Verdict("Failed", "fail", f"{', '.join(failed)}; {passed} of {len(verdicts)} verdicts passed{rest}")
    if passed:
        return Verdict("Passed", "pass", f"{passed} of {len(verdicts)} verdicts passed{rest}")
    return Verdict("Not checked", "not checked", f"no verdict was reached{rest}")
