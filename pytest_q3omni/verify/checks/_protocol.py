"""What a check file defines: one `CHECK`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pytest_q3omni.records import Finding, Severity

if TYPE_CHECKING:
    from pytest_q3omni.verify.subject import Subject

VERDICTS = ("packed", "consistent", "faithful", "calibrated", "loads", "agrees", "serves")
"""The questions about a checkpoint, in the order they are asked."""

CONFIG_JSON = "config.json"
"""How findings call the config; a field of it is `config.json.thinker_config.text_config.hidden_size`."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A finding before it knows its check.

    where: the tensor, the file, or the config field. blames: what else is explained by this fault; later checks leave
    it alone, as they leave `where` alone, so that every fault is reported once.
    """

    where: str
    found: str
    expected: str
    fix: str
    severity: Severity = "error"
    blames: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """One question.

    name: the file's name with `-`. verdict: the question of `VERDICTS` it belongs to.
    description: the module's docstring: what is wrong where it trips, why that matters, and how we know.
    find: yields the faults. after: checks whose faults explain away this one's, so they run first.
    needs: "source", "record" or "engine" where it asks nothing without one; "answers" of an engine.
    reads: "headers" where it looks at no tensor's bytes, "scales" where at scales and norms, "weights" otherwise.
    """

    name: str
    verdict: str
    description: str | None
    find: Callable[[Subject], Iterator[Fault]]
    after: tuple[str, ...] = ()
    needs: str = ""
    reads: Literal["headers", "scales", "weights"] = "headers"

    @property
    def summary(self) -> str:
        """The first line of the description."""
        return (self.description or "").strip().partition("\n")[0]

    def run(self, subject: Subject) -> Iterator[Finding]:
        """The findings; an error's place is marked in `subject.broken` before the next one is looked for."""
        for fault in self.find(subject):
            if fault.severity == "error":
                subject.blame(fault.where, *fault.blames)
            yield Finding(self.name, fault.severity, fault.where, fault.found, fault.expected, fault.fix)
