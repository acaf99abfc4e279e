"""What a test of a claim decides, and how that is written on the page `docs/claims.md`.

A test's docstring is the claim. It decides by running something: a claim is *confirmed* where what it says passes,
*refuted* where the check that would confirm it is seen to fail, *open* where nothing here can decide.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "claims.md"
WRITER = "claims-page"
"""The plugin by which `docs/claims.py` gathers rows; while it runs, the old page is not compared with."""
AGAIN = "Fix: python docs/claims.py"
STATES = ("confirmed", "refuted", "open")
OWN = "this package"
_BAR = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True)
class Row:
    """One claim. says: in the investigation's terms; finding: what is true; used: what it was established with."""

    topic: str
    name: str
    says: str
    state: str
    finding: str
    used: str

    @property
    def line(self) -> str:
        shown = "**refuted**" if self.state == "refuted" else self.state
        cells = (self.says, shown, self.finding, self.used, f"`{self.name}`")
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def rows_of(page: str) -> dict[str, Row]:
    """Name -> row of a page as it is."""
    found: dict[str, Row] = {}
    topic = ""
    for line in page.splitlines():
        if line.startswith("## "):
            topic = line.removeprefix("## ")
        elif line.startswith("| ") and line.endswith("` |"):
            cells = [cell.strip().replace("\\|", "|") for cell in _BAR.split(line)[1:-1]]
            says, state, finding, used, name = cells
            row = Row(topic, name.strip("`"), says, state.strip("*"), finding, used)
            found[row.name] = row
    return found


def difference(now: Row, page: str) -> str:
    """What a page says otherwise than a run, "" where it does not. Figures belong to the releases that gave them: with
    other releases only the claim and its state have to be the page's.
    """
    told = rows_of(page).get(now.name)
    if told is None:
        return f"docs/claims.md has no row for {now.name}. {AGAIN}"
    exact = told.used == now.used
    if told == now or (not exact and (told.topic, told.says, told.state) == (now.topic, now.says, now.state)):
        return ""
    return f"docs/claims.md is out of date.\nit says: {told.line}\nnow:     {now.line}\n{AGAIN}"


class Outcome:
    """How one claim comes out; its test asks for it as the fixture `outcome`."""

    def __init__(self, topic: str, name: str, says: str) -> None:
        self._topic, self._name, self._says = topic, name, says
        self._used: dict[str, str] = {}
        self._decided: tuple[str, str] | None = None

    @classmethod
    def of(cls, function: object) -> Outcome:
        """Of a test function, in the words of its docstring and under the title of its module's."""
        module = inspect.getmodule(function)
        title = (inspect.getdoc(module) or "").partition("\n")[0].rstrip(".")
        says = " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split())
        name = getattr(function, "__name__", "").removeprefix("test_")
        if not (title and says and name):
            raise AssertionError(f"{function}: a claim needs a docstring that says it, and its module a title")
        return cls(title, name, says)

    def uses(self, *packages: str) -> None:
        """Note the installed releases of these distributions."""
        self._used |= {package: version(package) for package in packages}

    def used(self, what: str, release: str) -> None:
        """Note a release that is not installed here: an engine's in its own environment, a run's device."""
        self._used[what] = release

    @contextmanager
    def confirms(self, finding: str) -> Iterator[None]:
        """The claim holds: the block passes."""
        yield
        self._decide("confirmed", finding)

    @contextmanager
    def refutes(self, finding: str, raised: type[Exception] = AssertionError, *, match: str = "") -> Iterator[None]:
        """The claim does not hold: the block, which would confirm it, is seen to fail with this error.

        match: a part of the error's text, so that no other failure counts.
        """
        try:
            yield
        except raised as error:
            if match not in str(error):
                raise
            self._decide("refuted", finding)
            return
        raise AssertionError(f"{self._says} What would confirm it passes now; the test calls it refuted: {finding}")

    def open(self, finding: str, *, needs: str) -> None:
        """Nothing here decides it. needs: what would."""
        self._decide("open", f"{finding} Needs: {needs}")

    def _decide(self, state: str, finding: str) -> None:
        if self._decided is not None:
            raise AssertionError(f"{self._name} decides twice: {self._decided[0]}, then {state}")
        self._decided = (state, " ".join(finding.split()))

    @property
    def row(self) -> Row:
        if self._decided is None:
            raise AssertionError(f"{self._name} decided nothing: confirms, refutes or open")
        used = ", ".join(f"{name} {release}".strip() for name, release in sorted(self._used.items()))
        return Row(self._topic, self._name, self._says, *self._decided, used or OWN)
