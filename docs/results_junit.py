"""JUnit XML of a run of `conformance/test_serving_answers.py`, read as rows of agreement.

Each item says what it measured in properties: a line for people, and the same as JSON. Files from before there was JSON
have the line only, which is read then.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

LINE, DATA = "q3omni agreement", "q3omni agreement data"
SOUND = {"packed weights against their BF16 twin": "weights", "the engine's W4A4 against our own": "inputs"}
"""What a line calls a comparison -> the comparison."""
MARKER = re.compile(r"\[(tiny|gpu|thor)-")
_LINE = re.compile(
    r"(?:control (?P<control>[\w-]+)|(?P<what>[^,]+)), (?P<modality>\w+), (?P<layers>\d+) layers?, (?P<engine>.+) on "
    r"(?P<device>.+): mean \|delta log p\| (?P<mean>\S+) ± (?P<error>\S+) \(median (?P<median>\S+), 99 % (?P<p99>\S+), "
    r"largest (?P<largest>\S+)\), top-1 (?P<top1>\S+)% over (?P<positions>[\d,]+) positions of (?P<prompts>\d+) "
    r"prompts; bounds (?P<bound>\S+) and (?P<bound_top1>\S+)%; the reference against itself (?P<noise>\S+), "
    r"(?P<noise_top1>\S+)%(?:; in common (?P<common>\S+), at least (?P<bound_common>\S+), the reference with itself "
    r"(?P<noise_common>\S+))?"
)
_FIGURES = {
    "apart": ("mean", "error", "top1", "positions", "prompts"),
    "noise": ("mean", "top1"),
    "bounds": ("mean", "top1"),
}
"""What a row must have to be shown, whatever else it has."""


def agreement_rows(file: Path) -> list[dict[str, Any]]:
    """What each item of the file measured, in order; passed: whether the item did. Exits where that cannot be read.

    An item that failed before it measured anything has no row: it is named on standard error.
    """
    rows = []
    for case, date in _cases(file):
        found = list(_of_case(case, date, file))
        if not found and _failed(case):
            sys.stderr.write(f"{file}: {case.get('name')} failed without figures, and adds nothing\n")
        rows += found
    if not rows:
        sys.exit(
            f"{file}: no item has the property '{LINE}'. Fix: pytest --pyargs "
            f"pytest_q3omni.conformance.test_serving_answers -m gpu --junitxml={file.name}"
        )
    return rows


def _cases(file: Path) -> Iterator[tuple[ElementTree.Element, str]]:
    """Each item, and the date of its session."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(f"{file}: cannot be read ({error}). Fix: name the file that pytest --junitxml wrote")
    if "<!DOCTYPE" in text:  # before it is parsed: entities are declared there, to be expanded or fetched
        sys.exit(f"{file}: has a document type declaration, and pytest writes none. Fix: name the file that it wrote")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        sys.exit(f"{file}: not XML ({error}). Fix: run it again, and let pytest --junitxml finish")
    for suite in root.iter("testsuite"):
        for case in suite.iter("testcase"):
            yield case, suite.get("timestamp", "")[:10]


def _of_case(case: ElementTree.Element, date: str, file: Path) -> Iterator[dict[str, Any]]:
    name, data = case.get("name", ""), _told(case, DATA)
    for value in data or _told(case, LINE):
        try:
            row, marker = json.loads(value) if data else _from_line(value, name), MARKER.search(name)
            if marker is None:
                raise ValueError("neither tiny, gpu nor thor")
            _check(row)
        except (ValueError, KeyError, TypeError) as error:
            sys.exit(f"{file}: {name}: figures that cannot be read ({error}): {value[:200]}. Fix: run this item again")
        row["engine"] = str(row["engine"]).partition(" in ")[0]  # its interpreter's path is nobody's business
        yield {"marker": marker[1], "date": date, **row, "passed": not _failed(case)}


def _told(case: ElementTree.Element, name: str) -> list[str]:
    return [each.get("value", "") for each in case.iter("property") if each.get("name") == name]


def _failed(case: ElementTree.Element) -> bool:
    return any(case.find(kind) is not None for kind in ("failure", "error"))


def _from_line(value: str, name: str) -> dict[str, Any]:
    found = _LINE.fullmatch(value)
    if found is None:
        raise ValueError("another line than test_serving_answers.py writes")
    if found["control"] is not None:
        comparison = "inputs" if name.startswith("test_inputs") else "weights"
    else:
        comparison = SOUND[found["what"]]
    figures = {name: _figure(float(found[name])) for name in ("mean", "error", "median", "p99", "largest")}
    common = {
        part: {"in_common": float(found[name])} if found[name] else {}
        for part, name in (("apart", "common"), ("noise", "noise_common"), ("bounds", "bound_common"))
    }
    counts = {name: int(found[name].replace(",", "")) for name in ("positions", "prompts")}
    return {
        "comparison": comparison,
        "control": found["control"],
        "modality": found["modality"],
        "layers": int(found["layers"]),
        "engine": found["engine"],
        "device": found["device"],
        "apart": {**counts, **figures, "top1": _share(found["top1"]), **common["apart"]},
        "noise": {"mean": _figure(float(found["noise"])), "top1": _share(found["noise_top1"]), **common["noise"]},
        "bounds": {"mean": _figure(float(found["bound"])), "top1": _share(found["bound_top1"]), **common["bounds"]},
    }


def _figure(value: float) -> float | str:
    """As the JSON has it: "inf" and "nan" as text."""
    return value if abs(value) < float("inf") else str(value)


def _share(percent: str) -> float | str:
    return _figure(round(float(percent) / 100, 6))


def _check(row: dict[str, Any]) -> None:
    """That a row can be shown.

    Raises:
        ValueError, KeyError, TypeError: something is missing, or no figure.
    """
    if row["comparison"] not in SOUND.values():
        raise ValueError(f"no comparison is called {row['comparison']!r}")
    for key in ("control", "modality", "layers", "engine", "device"):
        _ = row[key]
    for part, names in _FIGURES.items():
        for name in names:
            float(row[part][name])
    if not float(row["bounds"]["mean"]) > 0:
        raise ValueError("a bound of 0, which nothing keeps")
