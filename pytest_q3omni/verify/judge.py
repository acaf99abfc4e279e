"""The judge: runs all checks over a checkpoint and says which of the seven questions it answered, and how."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_q3omni.errors import CheckpointError, FormatError, Q3OmniError, UnknownName, WeightsNotHeld
from pytest_q3omni.omni.checkpoint import open_checkpoint, scan, thinker_of
from pytest_q3omni.omni.config import MODEL_TYPE, THINKER_TYPE
from pytest_q3omni.omni.safetensors_file import no_collection
from pytest_q3omni.records import CalibrationRecord, Finding, Judgement, Progress, Severity, Verdict, no_progress
from pytest_q3omni.verify.checks import VERDICTS, Check, checks
from pytest_q3omni.verify.facts import facts
from pytest_q3omni.verify.subject import Subject

if TYPE_CHECKING:
    from pytest_q3omni.engines.engine_report import AskEngine
    from pytest_q3omni.omni.hub_files import HubFiles

__all__ = ["SHOWN", "VERDICTS", "judge", "stands_for"]

SHOWN = 20
"""Findings of one kind (same check, same remedy) that are named one by one; the others are counted."""
_KINDS = 50  # of one check: a remedy may name a stranger's file, and all beyond these count as one more kind
_LONGEST = 600  # characters of a text in a finding; names and values come from a stranger and may have megabytes

_UNSEEN = "the weights stay on the hub, so whether they are finite was not asked"

_LATER = {
    "loads": "needs an engine's loader, and none was asked: --engine vllm",
    "agrees": "needs the answers of both models: q3omni parity ORIGINAL QUANTIZED",
    "serves": "needs a GPU and an engine; the judge reads files only",
}


def judge(
    checkpoint: Path | HubFiles,
    *,
    source: Path | None = None,
    record: CalibrationRecord | None = None,
    record_fault: Q3OmniError | None = None,
    require: Sequence[str] = (),
    engine: AskEngine | None = None,
    progress: Progress = no_progress,
) -> Judgement:
    """Judge the checkpoint in a directory, or on a hub; `faithful` needs the source's directory, `calibrated` the
    calibration record.

    record_fault: why the checkpoint's own record cannot be read: a finding of `calibrated`, which the other verdicts
    do not need. require: verdicts that the caller insists on; a wrong name is refused, and what "not checked" means is
    the caller's. engine: what `loads` is asked of, such as `VLLMLoader(...).load`.

    Raises:
        Q3OmniError: the engine could not judge, for no fault of the checkpoint.
        UnknownName: `require` names no verdict.
        Unreadable: no such directory, or no readable config.json: there is nothing to judge.
        Unreadable, Inconsistent: the source cannot be read.
        Unreachable: a hub does not answer.
    """
    _check_names(require)
    with no_collection():
        return _judge(checkpoint, source, record, record_fault, engine, progress)


def _judge(
    checkpoint: Path | HubFiles,
    source: Path | None,
    record: CalibrationRecord | None,
    record_fault: Q3OmniError | None,
    engine: AskEngine | None,
    progress: Progress,
) -> Judgement:
    original, here = None if source is None else open_checkpoint(source), scan(checkpoint)
    if (
        original is not None
        and here.config.get("model_type") == THINKER_TYPE
        and original.config.get("model_type") == MODEL_TYPE
    ):
        original = thinker_of(original)
    subject = Subject(here, source=original, record=record, record_fault=record_fault, progress=progress)
    unasked = _LATER["loads"] if engine is None else _unfit(subject)
    if engine is not None and not unasked:
        progress("ask the engine", 0, 1)
        subject.engine = engine(subject.checkpoint, original)
        progress("ask the engine", 1, 1)
    subject.unasked = unasked
    findings = list(_findings(subject))
    return Judgement(
        checkpoint=str(checkpoint),
        verdicts=tuple(_verdict(name, subject, findings) for name in VERDICTS),
        findings=tuple(_in_order(findings)),
        facts=facts(subject),
        tensor_errors=subject.tensor_errors,
        fetched=None if isinstance(checkpoint, Path) else checkpoint.traffic,
    )


def _unfit(subject: Subject) -> str:
    """Why an engine is not asked: it would judge half a checkpoint, or a model of any size; "" where it can be."""
    if subject.checkpoint.problems or not subject.entries:
        return "part of the weights cannot be read; see the findings"
    if not subject.checkpoint.holds_weights:
        return "needs the files, and they stay on the hub: download the checkpoint, and judge its directory"
    return "" if subject.implied else "config.json describes no model that is known here"


def _check_names(require: Sequence[str]) -> None:
    for name in require:
        if name not in VERDICTS:
            nearest = get_close_matches(name, VERDICTS, n=1)
            fix = f"did you mean '{nearest[0]}'?" if nearest else "choose one of them"
            raise UnknownName(f"no verdict is called '{name}'", expected=f"one of {', '.join(VERDICTS)}", fix=fix)


def _findings(subject: Subject) -> Iterator[Finding]:
    """What the checks find; of each kind the first ones, and one finding that counts the others."""
    for number, check in enumerate(checks()):
        subject.progress("checks", number, len(checks()))
        kinds: Counter[tuple[Severity, str]] = Counter()
        last: dict[tuple[Severity, str], Finding] = {}
        for finding in map(_short, _run(check, subject)):
            kind = finding.severity, finding.fix
            if kind not in kinds and len(kinds) >= _KINDS:
                kind = finding.severity, ""
            kinds[kind] += 1
            last[kind] = finding
            if kinds[kind] <= SHOWN:
                yield finding
        yield from (_and_more(last[kind], count - SHOWN) for kind, count in kinds.items() if count > SHOWN)
    subject.progress("checks", len(checks()), len(checks()))


def _short(finding: Finding) -> Finding:
    """The finding with texts that a screen holds; of a longer one, both ends."""
    if max(map(len, (finding.where, finding.found, finding.expected, finding.fix))) <= _LONGEST:
        return finding
    texts = (finding.where, finding.found, finding.expected, finding.fix)
    where, found, expected, fix = (
        text if len(text) <= _LONGEST else f"{text[: _LONGEST - 150]} ... ({len(text):,} characters) ... {text[-100:]}"
        for text in texts
    )
    return Finding(finding.check, finding.severity, where, found, expected, fix)


def _run(check: Check, subject: Subject) -> Iterator[Finding]:
    """A check's findings. A file that cannot be read any more, or a value no format has, is one as well."""
    try:
        yield from check.run(subject)
    except WeightsNotHeld:
        subject.unread.setdefault(check.verdict, []).append(check.name)
    except (CheckpointError, FormatError) as error:
        place = error.where or subject.checkpoint.path.name
        yield Finding(check.name, "error", place, error.found, error.expected or "a readable checkpoint", error.fix)
    except OSError as error:
        place = Path(error.filename).name if isinstance(error.filename, str) else subject.checkpoint.path.name
        fix = "check the file and its rights, then judge again"
        yield Finding(check.name, "error", place, error.strerror or str(error), "a readable file", fix)
    except MemoryError:
        place, fix = subject.checkpoint.path.name, "judge it on a machine with more, or check the tensors' sizes"
        yield Finding(check.name, "error", place, "more memory needed than there is", "tensors that memory holds", fix)


_MORE = re.compile(r"the last of ([\d,]{1,20}) more findings of this kind: ")


def stands_for(finding: Finding) -> int:
    """How many findings one stands for: itself, or all that are not named where it counts those."""
    found = _MORE.match(finding.found)
    return int(found[1].replace(",", "")) if found else 1


def _and_more(last: Finding, count: int) -> Finding:
    found = f"the last of {count:,} more findings of this kind: {last.found}"
    return Finding(last.check, last.severity, last.where, found, last.expected, last.fix)


def _in_order(findings: list[Finding]) -> list[Finding]:
    """Errors first, then in the order of the verdicts."""
    verdict = {check.name: VERDICTS.index(check.verdict) for check in checks()}
    return sorted(findings, key=lambda finding: (finding.severity != "error", verdict[finding.check]))


def _verdict(name: str, subject: Subject, findings: Sequence[Finding]) -> Verdict:
    heard = subject.engine is not None and subject.engine.depth == "answers"
    own = {check.name for check in checks() if check.verdict == name and (check.needs != "answers" or heard)}
    errors = [finding for finding in findings if finding.check in own and finding.severity == "error"]
    if errors:
        failed = ", ".join(dict.fromkeys(finding.check for finding in errors))
        count = _count(sum(map(stands_for, errors)), "error")
        return Verdict(name, "fail", f"{count}, first {errors[0].where} ({failed})")
    missing = _missing(name, subject)
    if missing:
        return Verdict(name, "not checked", missing)
    warnings = sum(stands_for(finding) for finding in findings if finding.check in own)
    parts = [f"{_count(len(own), 'check')} passed", subject.notes.get(name, "")]
    parts += [_count(warnings, "warning")] if warnings else []
    parts += [_UNSEEN] if name == "consistent" and not subject.checkpoint.holds_weights else []
    return Verdict(name, "pass", "; ".join(filter(None, parts)))


def _missing(name: str, subject: Subject) -> str:
    """What keeps a question from being answered, "" where nothing does."""
    if name == "loads":
        return subject.unasked
    if name in _LATER:
        return _LATER[name]
    if name == "faithful" and subject.source is None:
        return "needs the source: pass the original checkpoint"
    if name in subject.unread:
        asked = ", ".join(subject.unread[name])
        return f"needs the weights, which stay on the hub ({asked}): download the checkpoint, and judge its directory"
    if name == "calibrated" and subject.record is None:
        if not subject.packed:
            return "no module was recognised as packed, so there is no input scale to ask about"
        quantized = any(subject.numerics(packed) == "w4a4" for packed in subject.packed.values())
        if not quantized:
            return "no activation is quantized, so nothing had to be calibrated"
        return "needs the calibration record: pass its directory"
    if name == "consistent" and subject.unknown_model:
        found = f"names and shapes of a model of type {subject.unknown_model!r} are unknown"
        return f"{found}; nothing is wrong with what could be looked at (files, scales)"
    if name != "consistent" and (subject.partial or not subject.entries):
        return "part of the weights cannot be read; see the findings"
    if name == "faithful" and name not in subject.notes:
        return "nothing is left to compare: see the findings"
    if name == "faithful" and subject.uncompared:
        count = _count(subject.uncompared, "tensor")
        return f"{count} could not be compared, for other faults: see the findings; {subject.notes[name]}"
    return ""


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
