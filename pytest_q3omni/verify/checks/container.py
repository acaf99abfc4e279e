"""The files are whole: headers that tell the truth about their file, every shard there, no tensor stored twice.

A header is a claim about bytes. Truncation, overlaps, gaps, unknown dtypes and links that leave the directory are
found by the header reader (`omni/safetensors_file.py`) before a single byte of data is read. The safetensors library
itself accepts a header that lists one tensor twice; engines take whichever they meet last.
"""

from __future__ import annotations

import stat
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from pytest_q3omni.errors import CheckpointError, Unreadable
from pytest_q3omni.omni.checkpoint import INDEX, SINGLE
from pytest_q3omni.omni.untrusted_files import inside
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.companions import READ
from pytest_q3omni.verify.subject import Subject

_FEW = 5  # tensors stored twice that are named one by one; more of them are a file too many
_EXPECTED = {
    "file": "a whole, readable file",
    "checkpoint": "a checkpoint that lies whole in its directory, each tensor once",
}


def _find(subject: Subject) -> Iterator[Fault]:
    checkpoint = subject.checkpoint
    damaged: set[str] = set()
    listed: dict[str, list[str]] = defaultdict(list)
    for tensor, file in (checkpoint.index or {}).items():
        listed[file].append(tensor)
    twice = [problem for problem in checkpoint.problems if problem.where in checkpoint.entries]
    yield from _copies(subject, twice) if len(twice) > _FEW else (_fault(problem, problem.where) for problem in twice)
    yield from _no_files(subject, {_relative(problem.where, checkpoint.path) for problem in checkpoint.problems})
    for problem in checkpoint.problems:
        if problem.where in checkpoint.entries:
            continue
        name = _relative(problem.where, checkpoint.path)
        damaged.add(name)
        yield _fault(problem, name, listed.get(name, ()))
    subject.partial = checkpoint.index is None and bool(damaged - {INDEX})


def _copies(subject: Subject, problems: Sequence[CheckpointError]) -> Iterator[Fault]:
    """One fault for each pair of files that hold the same tensors; it names the one that the index does not know."""
    listed = set((subject.checkpoint.index or {}).values())
    pairs: dict[str, list[str]] = defaultdict(list)
    for problem in problems:
        pairs[problem.found].append(problem.where)
    for told, names in pairs.items():
        files = told.removeprefix("stored in ").split(" and in ")
        surplus = next((file for file in files if file not in listed), files[-1])
        found = f"{len(names):,} tensors are {told}, first {min(names)}"
        yield Fault(surplus, found, _EXPECTED["checkpoint"], f"delete {surplus}, or the other", blames=tuple(names))


def _no_files(subject: Subject, reported: set[str]) -> Iterator[Fault]:
    """Companions that are no files: links out of the checkpoint, whose contents a report would carry outside; pipes and
    devices, at which a loader waits for ever; and, of the names that loaders ask for, directories and dead links."""
    checkpoint = subject.checkpoint
    for name in checkpoint.names() if checkpoint.holds_weights else ():
        file = checkpoint.path / name
        if name.endswith(".safetensors") or name in reported:
            continue
        if name in READ or not inside(file) or _special(file):
            fault = checkpoint.storage.fault(file)
            if fault is not None:
                yield _fault(fault, name)


def _special(file: Path) -> bool:
    """True for a pipe, a device or a socket."""
    try:
        mode = file.stat().st_mode
    except (OSError, ValueError):  # a link to nowhere
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _relative(where: str, path: Path) -> str:
    """The file as the checkpoint names it; the directory itself stands for the weights that it lacks."""
    return SINGLE if where == str(path) else where.removeprefix(f"{path}/")


def _fault(problem: CheckpointError, where: str, lost: Sequence[str] = ()) -> Fault:
    found = problem.found if not lost else f"{problem.found}; the index puts {len(lost)} tensors into it"
    expected = problem.expected or _EXPECTED["file" if isinstance(problem, Unreadable) else "checkpoint"]
    return Fault(where, found, expected, problem.fix or "copy or download it again", blames=tuple(lost))


CHECK = Check("container", "consistent", __doc__, _find)
