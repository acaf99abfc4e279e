"""The files are whole: headers that tell the truth about their file, every shard there, no tensor stored twice.

A header is a claim about bytes. Truncation, overlaps, gaps, unknown dtypes and links that leave the directory are
found by the header reader (`omni/safetensors_file.py`) before a single byte of data is read. The safetensors library
itself accepts a header that lists one tensor twice; engines take whichever they meet last.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pytest_q3omni.errors import CheckpointError
from pytest_q3omni.omni.checkpoint import INDEX, SINGLE
from pytest_q3omni.verify.checks._protocol import Check, Fault
from pytest_q3omni.verify.subject import Subject


def _find(subject: Subject) -> Iterator[Fault]:
    checkpoint = subject.checkpoint
    damaged: set[str] = set()
    for problem in checkpoint.problems:
        if problem.where in checkpoint.entries:
            yield _fault(problem, problem.where)
            continue
        name = _relative(problem.where, checkpoint.path)
        damaged.add(name)
        lost = [tensor for tensor, file in (checkpoint.index or {}).items() if file == name]
        yield _fault(problem, name, lost)
    subject.partial = checkpoint.index is None and bool(damaged - {INDEX})


def _relative(where: str, path: Path) -> str:
    """The file as the checkpoint names it; the directory itself stands for the weights that it lacks."""
    return SINGLE if where == str(path) else where.removeprefix(f"{path}/")


def _fault(problem: CheckpointError, where: str, lost: list[str] | None = None) -> Fault:
    found = problem.found if not lost else f"{problem.found}; the index puts {len(lost)} tensors into it"
    expected = problem.expected or "a checkpoint that lies whole in its directory, each tensor once"
    return Fault(
        where, found, expected, problem.fix or "copy or download the checkpoint again", blames=tuple(lost or ())
    )


CHECK = Check("container", "consistent", __doc__, _find)
