"""One HTML file, offline: verdicts, findings, sizes, layers, answers, speech, weight errors and tokens per expert.

No script and nothing from the network: inline CSS, inline SVG, and PNG as data URIs. Every name comes from a file of a
stranger and is escaped; what reaches a style, a path or a link is a number that was computed here. Of long names the
page shows begin and end, of long lists the first rows: whatever a checkpoint holds, it stays a page. Every figure
is in the JSON forms, too: `q3omni verify` and `q3omni parity` with `--format json`, and the checkpoint's
`q3omni/record.json`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_q3omni import __version__
from pytest_q3omni.records import CalibrationRecord, Judgement, Parity, Plan, Verdict
from pytest_q3omni.report.html import (
    answers,
    coverage,
    figures,
    findings,
    inputs,
    layers,
    places,
    sizes,
    speech,
    weights,
)
from pytest_q3omni.report.plain import plain

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["render_judgement"]

_NAME, _TEXT = 300, 900
"""Characters of a name, and of a sentence that holds some."""
_CODE = re.compile(r"`([^`]+)`")
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
    spots = places.Places(judgement.findings)
    layer_maps = layers.layer_maps(judgement.facts.layers, judgement.tensor_errors, spots)
    errors = weights.weights(judgement.tensor_errors, spots)
    maps = [*layer_maps, *(errors.maps if errors else ())]
    drawn = frozenset(anchor for shown in maps for anchor, *_ in shown.spots)
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
            findings=findings.findings(judgement.findings, spots, drawn),
            facts=judgement.facts,
            compared=sizes.compared(judgement.facts, plan),
            runs=sizes.runs(judgement.facts.layers),
            layer_maps=layer_maps,
            weights=errors,
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
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: Mapping[str, object] = {
        "thousands": lambda number: f"{number:,}",
        "percent": lambda share: f"{100 * share:.2f} %",
        "size": figures.size,
        "number": figures.number,
        "bits": sizes.bits,
        "quantity": _quantity,
        "breakable": _breakable,
        "cut": lambda text: figures.clipped(text, _TEXT),
        "text": _text,
        "flag": lambda state: {"pass": "✓", "fail": "✗"}.get(state, "–"),
    }
    environment.filters.update(filters)
    return environment


def _shown(value: object) -> object:
    """A name as people may see it. Markup, a subclass of str, stays."""
    return plain(value) if type(value) is str else value


def _breakable(name: str) -> object:
    """The name, escaped, with a place to break the line after each dot. Its direction is its own affair."""
    from markupsafe import Markup, escape

    return Markup(f"<bdi>{str(escape(plain(figures.clipped(name, _NAME)))).replace('.', '.<wbr>')}</bdi>")


def _text(text: str) -> object:
    """A sentence, escaped; what stands between backticks is code."""
    from markupsafe import Markup, escape

    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(plain(figures.clipped(text, _TEXT))))))


def _quantity(value: float, unit: str) -> str:
    if unit == "share":
        return f"{100 * value:.2f} %"
    return {"count": "{:,.0f}", "bits": "{:.3f}", "ratio": "{:.2f}×"}[unit].format(value)


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
