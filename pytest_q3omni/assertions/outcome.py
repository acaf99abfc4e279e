"""How assertions end: one error that lists everything, or a measurement; and who else hears of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar

from pytest_q3omni.records import Judgement, Parity
from pytest_q3omni.report.plain import plain

heard: ContextVar[list[Judgement | Parity] | None] = ContextVar("q3omni_judged", default=None)
"""Where --q3omni-report collects what a session judged; None outside it."""

OPEN = "not checked"
NAMED = 5
"""Modules of one kind that a message names; the others are counted."""


def hear(judged: Judgement | Parity) -> None:
    """Let --q3omni-report know of it."""
    collected = heard.get()
    if collected is not None:
        collected.append(judged)


def fail(name: str, place: object, shown: str, findings: Sequence[str]) -> None:
    """Raise the one AssertionError of an assertion: what was judged, then every finding on a line of its own."""
    __tracebackhide__ = True
    head = f"{name}: {place}: {shown}" if str(place) else f"{name}: {shown}"
    raise AssertionError("\n  ".join(map(plain, (head, *findings))))
