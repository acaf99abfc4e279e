"""The fault catalogue: writes `fault-catalogue.md` beside this file. Some three minutes on one core, without torch.

    python docs/fault_catalogue.py
    python docs/fault_catalogue.py NAME ...   # these faults anew, everything else as the page has it

Every file of `tests/faults` damages a copy of a sound checkpoint, which is then judged as a stranger's: without the
hashes that our own packer leaves. Then the valid variants of `tests/verify/test_valid_*.py` are judged.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

PAGE = Path(__file__).with_name("fault-catalogue.md")
TESTS = Path(__file__).parents[1] / "tests" / "verify"
sys.path.insert(0, str(TESTS))

from sound_checkpoints import Sound, fault_names, judged, load_fault  # noqa: E402

from pytest_q3omni.records import Judgement  # noqa: E402
from pytest_q3omni.verify.checks import checks  # noqa: E402

HEAD = """# The fault catalogue

Every fault of `tests/faults`: a sound checkpoint of the tiny model, or of a small text model, damaged in one place. The
judge has what a user would have: the checkpoint, the original and, where calibration is asked, the record. *Found*: the
verdict fails (a few faults are only worth a warning, and then there is one). *Located*: the finding names the tensor,
the file or the field. *Alone*: found and located with nothing but the checkpoint, too. The hashes in
`q3omni/provenance.json` are taken away first, so that they find nothing.

No figure here is a promise about faults that nobody thought of; `tests/verify/test_faults.py` holds every line to it.

Made by `python docs/fault_catalogue.py`.
"""
_VALID = "## Valid variants\n"
_BAR = re.compile(r"(?<!\\)\|")
VERDICT = {check.name: check.verdict for check in checks()}
NEEDS = {check.name: check.needs for check in checks()}


@dataclass(frozen=True)
class Row:
    """One fault, and what became of it."""

    group: str
    name: str
    summary: str
    layout: str
    verdict: str
    check: str
    where: str
    found: bool
    located: bool
    alone: bool

    @property
    def line(self) -> str:
        seen = "located" if self.located else "found" if self.found else "**missed**"
        cells = [f"`{self.name}`: {self.summary}", self.layout, self.verdict, self.check, f"`{self.where}`", seen]
        cells.append("yes" if self.alone else "")
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def row(name: str, sound: Sound, place: Path) -> Row:
    """Damage a copy in the new folder `place`, and judge it with what the fault names, and alone."""
    module = load_fault(name)
    fault = module.FAULT
    directory = sound.copy(fault.base, place)
    fault.break_(directory)
    original = sound.original(fault.base)
    found, located = seen(judged(directory, fault.given, original), fault)
    alone = fault.alone and not NEEDS[fault.check] and all(seen(judged(directory, ()), fault))
    return Row(
        fault.group,
        name,
        (module.__doc__ or "").strip().partition("\n")[0].rstrip("."),
        "compressed-tensors" if fault.base.startswith("ct-") else "ModelOpt",
        f"{VERDICT[fault.check]}{' (warning)' if fault.severity == 'warning' else ''}",
        fault.check,
        fault.where,
        found,
        located,
        alone,
    )


def seen(judgement: Judgement, fault: object) -> tuple[bool, bool]:
    """(found, located)."""
    check, where, severity = (getattr(fault, field) for field in ("check", "where", "severity"))
    own = [finding for finding in judgement.findings if (finding.check, finding.severity) == (check, severity)]
    states = {verdict.name: verdict.state for verdict in judgement.verdicts}
    found = bool(own) and (severity == "warning" or states[VERDICT[check]] == "fail")
    return found, found and any(where in finding.where for finding in own)


def rows(names: list[str]) -> Iterator[Row]:
    """The faults of these names, each from its own copy."""
    with tempfile.TemporaryDirectory() as place:
        sound = Sound(Path(place) / "sound")
        for name in names:
            yield row(name, sound, Path(place) / "copies" / name)


def told_before() -> list[Row]:
    """The rows of the page as it is, of faults that are still there."""
    found, known = [], set(fault_names())
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            cells = [cell.strip().replace("\\|", "|") for cell in _BAR.split(line.removeprefix("|").removesuffix("|"))]
            name, _, summary = cells[0].partition(": ")
            seen_as, alone = cells[5] == "located", cells[6] == "yes"
            name = name.strip("`")
            if name in known:
                group = load_fault(name).FAULT.group
                told = (group, name, summary, *cells[1:4], cells[4].strip("`"))
                found.append(Row(*told, "missed" not in cells[5], seen_as, alone))
    return found


def variants() -> dict[str, Counter[str]]:
    """Test of a valid variant -> how many of its cases passed and failed."""
    files = sorted(map(str, TESTS.glob("test_valid_*.py")))
    found: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *files]
        subprocess.run(command, stdout=sys.stderr, check=False)
        for case in ElementTree.parse(report).iter("testcase"):  # written by pytest, a line above
            name = case.attrib["name"].partition("[")[0].removeprefix("test_").replace("_", " ")
            bad = case.find("failure") is not None or case.find("error") is not None
            state = "skipped" if case.find("skipped") is not None else "failed" if bad else "passed"
            found.setdefault(name, Counter())[state] += 1
    return found


def totals(found: list[Row]) -> str:
    """Detection per class."""
    lines = ["| class | faults | found | located | alone |", "|---|---:|---:|---:|---:|"]
    groups = sorted({row.group for row in found})
    for label, chosen in [*((g, [row for row in found if row.group == g]) for g in groups), ("**all**", found)]:
        counts = (
            len(chosen),
            sum(r.found for r in chosen),
            sum(r.located for r in chosen),
            sum(r.alone for r in chosen),
        )
        lines.append(f"| {label} | " + " | ".join(map(str, counts)) + " |")
    layouts = Counter(row.layout for row in found)
    told = ", ".join(f"{count} in the layout of {layout}" for layout, count in sorted(layouts.items()))
    return "\n".join([*lines, "", f"{told}.", ""])


def sound_ones(found: dict[str, Counter[str]]) -> str:
    """The valid variants, and the false alarms among them."""
    cases = sum(count["passed"] + count["failed"] for count in found.values())
    failed = sum(count["failed"] for count in found.values())
    lines = [_VALID, f"{cases} checkpoints that must pass; false alarms: {failed}.\n"]
    lines += ["| variant | cases | false alarms |", "|---|---:|---:|"]
    lines += [f"| {name} | {c['passed'] + c['failed']} | {c['failed']} |" for name, c in sorted(found.items())]
    return "\n".join([*lines, ""])


def page(found: list[Row], valid: str) -> str:
    """The page: totals, a table for each class, the valid variants."""
    parts = [HEAD, "## Detection\n", totals(found)]
    for group in sorted({row.group for row in found}):
        head = "| fault | layout | verdict | check | where | seen | alone |\n" + "|---" * 7 + "|"
        lines = [row.line for row in found if row.group == group]
        parts.append("\n".join([f"## {group[0].upper()}{group[1:]}\n", head, *lines, ""]))
    return "\n".join([*parts, valid])


if __name__ == "__main__":
    asked = sys.argv[1:] or fault_names()
    kept = [old for old in told_before() if old.name not in asked] if sys.argv[1:] else []
    told = PAGE.read_text(encoding="utf-8").partition(_VALID)[2] if sys.argv[1:] else ""
    valid = _VALID + told if told else sound_ones(variants())
    PAGE.write_text(page(sorted([*kept, *rows(asked)], key=lambda found: found.name), valid), encoding="utf-8")
