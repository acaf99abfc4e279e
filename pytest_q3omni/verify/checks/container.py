"""The files are whole: headers that tell the truth about their file, every shard there, no tensor stored twice.

A header is a claim about bytes. Truncation, overlaps, gaps, unknown dtypes and links that leave the directory are
found by the header reader (`omni/safetensors_file.py`) before a single byte of data is read. The safetensors library
itself accepts a header that lists one tensor twice; engines take whichever they meet last.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from pytest_q3omni.errors import CheckpointError, Unreadable
from pytest_q3omni.omni.checkpoint import INDEX, SINGLE
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Subject

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
    for problem in checkpoint.problems:
        if problem.where in checkpoint.entries:
            yield _fault(problem, problem.where)
            continue
        name = _relative(problem.where, checkpoint.path)
        damaged.add(name)
        yield _fault(problem, name, listed.get(name, ()))
    subject.partial = checkpoint.index is None and bool(damaged - {INDEX})


def _relative(where: str, path: Path) -> str:
    """The file as the checkpoint names it; the directory itself stands for the weights that it lacks."""
    return SINGLE if where == str(path) else where.removeprefix(f"{path}/")


def _fault(problem: CheckpointError, where: str, lost: Sequence[str] = ()) -> Fault:
    found = problem.found if not lost else f"{problem.found}; the index puts {len(lost)} tensors into it"
    expected = problem.expected or _EXPECTED["file" if isinstance(problem, Unreadable) else "checkpoint"]
    return Fault(where, found, expected, problem.fix or "copy or download it again", blames=tuple(lost))


CHECK = Check("container", "consistent", __doc__, _find)
