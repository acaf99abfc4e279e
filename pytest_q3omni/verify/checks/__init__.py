"""The checks, one file each: a check asks one question of a `Subject` and yields what is wrong, and what to do."""

from __future__ import annotations

from functools import cache
from graphlib import TopologicalSorter

from pytest_q3omni import registry  # not its `names`: the check of that name would take its place
from pytest_q3omni.verify.checks._protocol import VERDICTS, Check, Fault

__all__ = ["VERDICTS", "Check", "Fault", "checks"]


@cache
def checks() -> tuple[Check, ...]:
    """Every check, each after those it names in `after`; among the free ones by verdict and name."""
    found: dict[str, Check] = {name: registry.load(__name__, name).CHECK for name in registry.names(__name__)}
    order = TopologicalSorter({name: check.after for name, check in found.items()})
    order.prepare()
    ordered: list[Check] = []
    ready: list[str] = []
    while order.is_active():
        ready = sorted([*ready, *order.get_ready()], key=lambda name: (VERDICTS.index(found[name].verdict), name))
        chosen = ready.pop(0)
        ordered.append(found[chosen])
        order.done(chosen)
    return tuple(ordered)
