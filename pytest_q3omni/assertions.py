"""What a test can say about a checkpoint. Plain functions on paths, model handles or text, usable outside pytest, too.

Each returns the Measurement it judged, and raises one AssertionError that lists every finding: module, number, bound,
remedy.
"""

from __future__ import annotations

from contextvars import ContextVar

from pytest_q3omni.records import Judgement

_judged: ContextVar[list[Judgement] | None] = ContextVar("q3omni_judged", default=None)
"""Where --q3omni-report collects the judgements of a session; None outside it."""
