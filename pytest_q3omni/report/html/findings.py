"""Findings of one check with one remedy are one group: a page of hundreds of like findings stays readable."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from pytest_q3omni.records import Finding, Severity
from pytest_q3omni.report.html.places import Places
from pytest_q3omni.verify.checks import checks
from pytest_q3omni.verify.judge import SHOWN, stands_for

_OPEN = 3  # of a group; the others are a click away, and on paper
_MOST = 3 * SHOWN  # of a group; the judge itself names SHOWN of a kind
_REMEDIES = 4  # of one check; where more are needed, those that heal one finding each are one group
_GROUPS = 60


@dataclass(frozen=True, slots=True)
class Named:
    """One finding of a group: its place, the anchor it leads to ("" where no map shows it), and what differs.

    expected, fix: "" where they are the group's.
    """

    where: str
    anchor: str
    found: str
    expected: str
    fix: str


@dataclass(frozen=True, slots=True)
class Group:
    """Findings of one check, severity and remedy. fix, expected: of all of them, "" where they differ.

    verdict, asks: the question of the check, and its first line; "" of what is no check of files. total: with those
    that nobody names.
    """

    anchor: str
    check: str
    severity: Severity
    verdict: str
    asks: str
    fix: str
    expected: str
    total: int
    named: list[Named]

    @property
    def shown(self) -> list[Named]:
        return self.named[:_OPEN]

    @property
    def folded(self) -> list[Named]:
        return self.named[_OPEN:]


@dataclass(frozen=True, slots=True)
class Findings:
    """groups: in the order of the judgement. errors, warnings: all of them. left_out: groups that are not shown."""

    groups: list[Group]
    errors: int
    warnings: int
    left_out: int

    def of(self, verdict: str) -> list[Group]:
        """The groups that belong to a verdict."""
        return [group for group in self.groups if group.verdict == verdict]


def findings(found: Sequence[Finding], places: Places, drawn: Collection[str]) -> Findings:
    """The groups of `Judgement.findings`. drawn: anchors that are on the page."""
    kinds = _kinds(found)

    def anchor(where: str) -> str:
        return next((name for name in places.links(where) if name in drawn), "")

    asked = {check.name: (check.verdict, check.summary) for check in checks()}
    groups = [
        _group(f"f{index}", members, asked.get(members[0].check, ("agrees", "")), anchor)
        for index, members in enumerate(kinds[:_GROUPS])
    ]
    errors = sum(stands_for(finding) for finding in found if finding.severity == "error")
    return Findings(groups, errors, sum(map(stands_for, found)) - errors, max(0, len(kinds) - _GROUPS))


def _kinds(found: Sequence[Finding]) -> list[list[Finding]]:
    """Findings by severity, check and remedy."""
    checked: dict[tuple[Severity, str], dict[str, list[Finding]]] = {}
    for finding in found:
        remedies = checked.setdefault((finding.severity, finding.check), {})
        remedies.setdefault(finding.fix, []).append(finding)
    kinds: list[list[Finding]] = []
    for remedies in checked.values():
        alone = [members[0] for members in remedies.values() if len(members) == 1]
        joined = len(remedies) > _REMEDIES and len(alone) > 1
        kinds += [members for members in remedies.values() if len(members) > 1 or not joined]
        kinds += [alone] if joined else []
    return kinds


def _group(anchor: str, members: list[Finding], asked: tuple[str, str], link: Callable[[str], str]) -> Group:
    expected, fixes = {finding.expected for finding in members}, {finding.fix for finding in members}
    named = [
        Named(
            finding.where,
            link(finding.where),
            finding.found,
            finding.expected if len(expected) > 1 else "",
            finding.fix if len(fixes) > 1 else "",
        )
        for finding in members[:_MOST]
    ]
    first = members[0]
    return Group(
        anchor, first.check, first.severity, *asked,
        fix=first.fix if len(fixes) == 1 else "", expected=first.expected if len(expected) == 1 else "",
        total=sum(map(stands_for, members)), named=named,
    )  # fmt: skip
