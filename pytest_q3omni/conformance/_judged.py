"""One judgement per pair and run: the items of the suite, and the workers of xdist, read the same one."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from pathlib import Path

from pytest_q3omni import api
from pytest_q3omni.errors import Q3OmniError
from pytest_q3omni.omni.durable import write_file
from pytest_q3omni.plugin.locks import locked
from pytest_q3omni.records import Finding, Judgement
from pytest_q3omni.report.plain import plain
from pytest_q3omni.schema import judgement_from_json, judgement_json


class CheckpointWarning(UserWarning):
    """What the judge warns of; it fails no item."""


@cache
def judged(checkpoint: Path, source: Path | None, engine: str | None, shared: Path | None) -> Judgement | str:
    """What `verify` says, or why it cannot say anything: one line. Asked once in a process.

    shared: a directory of this run that its other processes share; the first to ask leaves the answer there.
    """
    if shared is None:
        return _judge(checkpoint, source, engine)
    key = sha256(f"{checkpoint}\0{source}".encode()).hexdigest()[:16]
    file = shared / f"q3omni-judgement-{key}.json"
    with locked(file.with_suffix(".lock")):
        if file.exists():
            known = json.loads(file.read_text(encoding="utf-8"))
            return known if isinstance(known, str) else judgement_from_json(known)
        found = _judge(checkpoint, source, engine)
        write_file(file, json.dumps(found if isinstance(found, str) else judgement_json(found)).encode())
        return found


def _judge(checkpoint: Path, source: Path | None, engine: str | None) -> Judgement | str:
    try:
        return api.verify(checkpoint, source=source, engine=engine)
    except Q3OmniError as error:
        return f"{type(error).__name__}: {error}"


def told(findings: Iterable[Finding]) -> str:
    """Findings as a message, one a line."""
    return "\n".join(plain(str(finding)) for finding in findings)


def warn(finding: Finding) -> None:
    """Show a warning in pytest's summary, also where a project turns warnings into errors: it is about a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", CheckpointWarning)
        warnings.warn(plain(str(finding)), CheckpointWarning, stacklevel=2)
