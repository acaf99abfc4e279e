"""Does it answer like its original: KL divergence per modality, beside what it must be compared with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_q3omni.records import Agreement, Divergence
from pytest_q3omni.report.html.figures import LogAxis


@dataclass(frozen=True, slots=True)
class Mark:
    """A sign in a row: which one, where (per cent), its span of +- 2 standard errors, and what it is."""

    sign: str
    place: float
    span: tuple[float, float] | None
    title: str


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the picture."""

    label: str
    state: str
    marks: list[Mark]


@dataclass(frozen=True, slots=True)
class Dots:
    """A dot plot over a logarithmic axis; `summary` says the same in words."""

    lines: list[Line]
    ticks: list[tuple[float, str]]
    summary: str


@dataclass(frozen=True, slots=True)
class Answers:
    """dots: the picture. agreements: the rows of the table. spreads: (agreement, what, its divergence)."""

    dots: Dots
    agreements: Sequence[Agreement]
    spreads: list[tuple[Agreement, str, Divergence]]


def answers(agreements: Sequence[Agreement]) -> Answers | None:
    """The figures of `Parity.agreements`; None where there are none."""
    if not agreements:
        return None
    axis = LogAxis(value for row in agreements for value in _values(row))
    lines = [Line(f"{row.modality}, {row.numerics.upper()}", row.state, _marks(row, axis)) for row in agreements]
    summary = "; ".join(
        f"{row.modality} {row.numerics}: {row.divergence.mean:.3g}, limit {row.limit:.3g}, {row.state}"
        for row in agreements
    )
    spreads = [(row, what, divergence) for row in agreements for what, divergence in _named(row)]
    return Answers(Dots(lines, axis.ticks, f"Mean KL divergence. {summary}"), agreements, spreads)


def dots(rows: Sequence[tuple[str, Divergence]], what: str) -> Dots:
    """A dot plot of plain divergences: mean with its error, and the 99th percentile."""
    axis = LogAxis(value for _, row in rows for value in (row.mean, row.p99))
    lines = [Line(name, "", [_mean("this", "mean", row, axis), _value("p99", row.p99, axis)]) for name, row in rows]
    means = ", ".join(f"{name} {row.mean:.3g}" for name, row in rows)
    return Dots(lines, axis.ticks, f"{what}. {means}")


def _named(row: Agreement) -> list[tuple[str, Divergence]]:
    return [
        ("BF16 ‖ this checkpoint", row.divergence),
        ("BF16 ‖ plain NVFP4", row.plain),
        ("plain NVFP4 ‖ this checkpoint", row.apart),
        ("BF16 ‖ BF16 repeated", row.repeat),
    ]


def _values(row: Agreement) -> tuple[float, ...]:
    return row.divergence.mean, row.plain.mean, row.repeat.mean, row.limit


def _marks(row: Agreement, axis: LogAxis) -> list[Mark]:
    """The checkpoint comes last: it is drawn over the others."""
    return [
        _value("limit", row.limit, axis),
        _mean("repeat", "BF16 repeated", row.repeat, axis),
        _mean("plain", "plain NVFP4", row.plain, axis),
        _mean("this", "this checkpoint", row.divergence, axis),
    ]


def _mean(sign: str, what: str, row: Divergence, axis: LogAxis) -> Mark:
    ends = (row.mean - 2 * row.error, row.mean + 2 * row.error)
    span = (axis.place(ends[0]), axis.place(ends[1])) if math.isfinite(row.error) and row.error > 0 else None
    return Mark(sign, axis.place(row.mean), span, f"{what}: {row.mean:.3g} ± {row.error:.2g}")


def _value(sign: str, value: float, axis: LogAxis) -> Mark:
    return Mark(sign, axis.place(value), None, f"{sign}: {value:.3g}")
