"""What a plan would run into: the engines' known traps, asked before anything is written."""

from __future__ import annotations

from pytest_q3omni.engines.compatibility import planned, tripped
from pytest_q3omni.records import Plan


def known_traps(plan: Plan) -> str:
    """What engines are known to do with the checkpoint that the plan makes, "" where they take it.

    A remark, no refusal: which engine serves it, and which release, is not the plan's to know.
    """
    found: dict[str, str] = {}
    for trap, where, what in tripped(planned(plan)):
        found.setdefault(trap.name, f"{trap.versions} and {where} ({what}): {trap.then}. Fix: {trap.fix}")
    return ". ".join(found.values())
