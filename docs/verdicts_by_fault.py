"""Which verdict sees which fault: writes `verdicts-by-fault.md` beside this file. Some fifteen minutes on one core.

    python docs/verdicts_by_fault.py
    python docs/verdicts_by_fault.py NAME ...   # these faults anew, the others as the page has them

The faults of `tests/faults` that damage tensors or the record of what we pack: a sound checkpoint of the tiny model is
damaged, the files are judged with the original and the record at hand, and the answers are compared in both numerics.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).with_name("verdicts-by-fault.md")
TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS / "parity"), str(TESTS / "verify")]

from parity_runs import against, load_fault, make, reference_of  # noqa: E402
from sound_checkpoints import OWN_BASES, fault_names, judged  # noqa: E402

from pytest_q3omni.errors import Q3OmniError  # noqa: E402
from pytest_q3omni.omni.checkpoint import scan  # noqa: E402
from pytest_q3omni.parity.compare import Reference  # noqa: E402
from pytest_q3omni.records import Parity  # noqa: E402

FILES = ("packed", "consistent", "faithful", "calibrated")
NUMERICS = ("w4a16", "w4a4")
_BAR = re.compile(r"(?<!\\)\|")
SHOWN = {"pass": "", "fail": "**fail**", "not checked": "–"}
HEAD = """# Which verdict sees which fault

Every fault of `tests/faults` that damages tensors or the record of a checkpoint that we pack, on the built-in tiny
model; all others are in [the fault catalogue](fault-catalogue.md). `packed`, `consistent`, `faithful` and `calibrated`
judge the files, here with the original and the calibration record beside them; `agrees` compares the answers, with
weights alone rounded (W4A16) and with inputs rounded, too (W4A4). An empty cell is a pass, – is "not checked". "cannot
run" says that the model does not even open: the files' verdicts say why.

Made by `python docs/verdicts_by_fault.py`.
"""


CLASSES = ("calibration", "other stages", "packing", "scales", "silent non-quantization")


@dataclass(frozen=True)
class Row:
    """One fault: what it is, the states of the files' verdicts, the states of `agrees` by numerics."""

    group: str
    name: str
    summary: str
    files: tuple[str, ...]
    answers: tuple[str, ...]

    @property
    def line(self) -> str:
        cells = [f"`{self.name}`: {self.summary}", *(SHOWN.get(state, state) for state in (*self.files, *self.answers))]
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def row(name: str, sound: Path, reference: Reference, place: Path) -> Row:
    """Damage a copy of `sound`, judge its files, and compare its answers."""
    module = load_fault(name)
    fault = module.FAULT
    directory = place / "damaged"
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(sound, directory)
    fault.break_(directory)
    judgement = judged(directory)
    files = tuple(judgement.verdict(verdict).state for verdict in FILES)
    summary = (module.__doc__ or "").strip().partition("\n")[0].rstrip(".")
    return Row(fault.group, name, summary, files, answers(directory, sound, reference))


def answers(directory: Path, sound: Path, reference: Reference) -> tuple[str, ...]:
    """`agrees` in each numerics, "cannot run" where the model does not open. Speech takes most of the time, and is
    asked where it may differ by itself: where a tensor behind the thinker does.
    """
    try:
        parity = against(reference, directory, speech=voice(directory) != voice(sound))
    except Q3OmniError:
        return ("cannot run",) * len(NUMERICS)
    return tuple(state(parity, numerics) for numerics in NUMERICS)


def voice(directory: Path) -> dict[str, bytes]:
    """What speaks: name -> bytes of every tensor that is not the thinker's."""
    checkpoint = scan(directory)
    names = (name for name in checkpoint.entries if not name.startswith("thinker."))
    return {name: checkpoint.read(name).tobytes() for name in names}


def state(parity: Parity, numerics: str) -> str:
    """The worst of the rows and findings of one numerics; input ranges count in W4A4."""
    states = {row.state for row in parity.agreements if row.numerics == numerics}
    if not states:
        return "not checked"
    for found in parity.findings:
        ranges = found.check == "input-ranges" and numerics == "w4a4"
        if found.severity == "error" and (ranges or numerics.upper() in found.where):
            return "fail"
    return "not checked" if "not checked" in states else "pass"


def compared() -> list[str]:
    """The faults that the page is about."""
    faults = {name: load_fault(name).FAULT for name in fault_names()}
    return [name for name, fault in faults.items() if fault.base in OWN_BASES and fault.group in CLASSES]


def rows(names: list[str]) -> Iterator[Row]:
    """The faults of these names, each from its own sound checkpoint; those of one recipe share a reference."""
    with tempfile.TemporaryDirectory() as place:
        sound: dict[str, Path] = {}
        references: dict[str, Reference] = {}
        for name in names:
            base = load_fault(name).FAULT.base
            if base not in sound:
                sound[base] = make(base, Path(place) / base)
                references[base] = reference_of(sound[base])
            sys.stderr.write(f"{name}\n")
            yield row(name, sound[base], references[base], Path(place))


def told_before() -> Iterator[Row]:
    """The rows of the page as it is."""
    states = {shown: state for state, shown in SHOWN.items()}
    known = compared()
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            cells = [cell.strip().replace("\\|", "|") for cell in _BAR.split(line.removeprefix("|").removesuffix("|"))]
            name, _, summary = cells[0].partition(": ")
            told = [states.get(cell, cell) for cell in cells[1:]]
            name = name.strip("`")
            if name in known:
                group = load_fault(name).FAULT.group
                yield Row(group, name, summary, tuple(told[: len(FILES)]), tuple(told[len(FILES) :]))


def page(found: list[Row]) -> str:
    """The page: a table for each class of faults, and what all of them come to."""
    head = "| fault | " + " | ".join((*FILES, *(f"agrees, {name.upper()}" for name in NUMERICS))) + " |"
    parts = [HEAD, summary(found)]
    for group in sorted({row.group for row in found}):
        lines = [row.line for row in found if row.group == group]
        parts.append("\n".join([f"## {group[0].upper()}{group[1:]}\n", head, "|---" * 7 + "|", *lines, ""]))
    return "\n".join(parts)


def summary(found: list[Row]) -> str:
    """How many faults each verdict sees, and who sees what nobody else does."""
    by_files = sum("fail" in row.files for row in found)
    ran = [row for row in found if "cannot run" not in row.answers]
    by_answers = sum("fail" in row.answers for row in ran)
    blind = sum("fail" in row.answers and "fail" not in row.answers[:1] for row in ran)
    return (
        f"Of {len(found)} faults the files' verdicts see {by_files}; {len(found) - by_files} are warnings. "
        f"{len(ran)} of the damaged checkpoints can be run, and of these the answers show {by_answers}, "
        f"{blind} of them in W4A4 alone.\n"
    )


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    asked = sys.argv[1:] or compared()
    done = [old for old in told_before() if old.name not in asked] if sys.argv[1:] else []
    for new in rows(asked):
        done.append(new)  # written at once: an interrupted run goes on with the names that are left
        PAGE.write_text(page(sorted(done, key=lambda found: found.name)), encoding="utf-8")
