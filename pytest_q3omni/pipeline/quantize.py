"""Quantize: plan, calibrate where activations matter, pack, verify. Everything that can be refused is refused first."""

from __future__ import annotations

import glob
import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pytest_q3omni import __version__
from pytest_q3omni.calibrate.record import load_record, save_record
from pytest_q3omni.derive.weights import input_scale
from pytest_q3omni.engines.device import check_device
from pytest_q3omni.errors import Inconsistent, InvalidRequest
from pytest_q3omni.omni.checkpoint import Checkpoint, open_checkpoint
from pytest_q3omni.omni.conversations import Conversation, digest, load_conversations
from pytest_q3omni.omni.durable import check_new_directory
from pytest_q3omni.pack.stream import chunk_bytes
from pytest_q3omni.pack.write import OWN, check_space, write_checkpoint
from pytest_q3omni.plan.build import build_plan
from pytest_q3omni.records import CalibrationRecord, Judgement, Plan, Progress, Quantized, Verdict, no_progress
from pytest_q3omni.verify.judge import judge


def quantize_checkpoint(
    source: Path,
    out: Path,
    recipe: str,
    *,
    conversations: Path | None = None,
    record: Path | None = None,
    layout: str = "modelopt",
    max_memory: int = 2 << 30,
    max_shard_bytes: int = 5 * 10**9,
    device: str = "cpu",
    progress: Progress = no_progress,
) -> Quantized:
    """Make the quantized checkpoint `out` from `source` and judge it against its source.

    A W4A4 recipe needs `record`, or `conversations` to make one. Run again after a kill it goes on: finished shards and
    a finished calibration are kept beside `out` until it is whole.

    Raises:
        InvalidRequest: the request contradicts itself; nothing was written.
        SamplesFailed, NonFiniteAmax: calibration cannot be used.
        CheckpointError, FormatError: the source cannot be read or packed, or `out` cannot be written.
    """
    _check_places(source, out)
    check_device(device)
    plan = build_plan(source, recipe, layout_name=layout, max_shard_bytes=max_shard_bytes)
    chunk_bytes(max_memory, plan)  # refuses a limit that is too low
    _check_calibration(plan, conversations, record)
    check_space(out, plan)
    checkpoint = open_checkpoint(source)
    seen, files = _calibration(checkpoint, plan, out, conversations, record, device, progress)
    write_checkpoint(checkpoint, plan, out, record=seen, record_files=files, max_memory=max_memory, progress=progress)
    for kept in out.parent.glob(_kept_name(glob.escape(out.name), "*")):
        shutil.rmtree(kept)
    judgement = judge(out, source=source, record=seen, progress=progress)
    return Quantized(plan, seen, judgement if plan.packed else _as_control(judgement))


def _as_control(judgement: Judgement) -> Judgement:
    """The judgement of a recipe that packs nothing: that nothing is packed is what was asked for."""
    findings = tuple(finding for finding in judgement.findings if finding.check != "quantized-at-all")
    control = Verdict("packed", "not checked", "the recipe packs nothing: this is the control")
    verdicts = tuple(control if verdict.name == "packed" else verdict for verdict in judgement.verdicts)
    return replace(judgement, findings=findings, verdicts=verdicts)


def _check_places(source: Path, out: Path) -> None:
    """Refuse an OUT that is, holds, or lies in SRC, or that cannot become a new directory."""
    from_, to = source.resolve(), out.resolve()
    if not source.is_dir():
        open_checkpoint(source)  # says what is wrong
    if from_ == to:
        raise InvalidRequest("OUT is SRC", where=str(out), expected="another directory", fix="choose a new OUT")
    if to.is_relative_to(from_) or from_.is_relative_to(to):
        raise InvalidRequest(
            "OUT and SRC lie in each other",
            where=str(out),
            expected="directories apart",
            fix="choose an OUT outside SRC",
        )
    check_new_directory(out, "OUT")


def _check_calibration(plan: Plan, conversations: Path | None, record: Path | None) -> None:
    if conversations is not None and record is not None:
        raise InvalidRequest(
            "conversations and a record given", expected="one of them", fix="drop one: a record is used as it is"
        )
    if plan.numerics == "w4a4" and conversations is None and record is None:
        raise InvalidRequest(
            f"recipe {plan.recipe} quantizes activations (W4A4) and got no calibration data",
            expected="conversations or a calibration record",
            fix="pass --conversations FILE.jsonl or --record RECORD, or choose a weight-only recipe (W4A16)",
        )


def _calibration(
    source: Checkpoint,
    plan: Plan,
    out: Path,
    conversations: Path | None,
    record: Path | None,
    device: str,
    progress: Progress,
) -> tuple[CalibrationRecord | None, Path | None]:
    """The record and its files: given, kept from an interrupted run, or made now. None where nothing needs one."""
    samples = None if conversations is None else load_conversations(conversations)
    given = None if record is None else _given_record(source, plan, record)
    if plan.numerics != "w4a4":
        return None, None
    if samples is None:
        return given, record if record is None or not (record / OWN).is_dir() else record / OWN
    from pytest_q3omni.calibrate.observe import run_calibration

    kept = out.with_name(_kept_name(out.name, _digest(source, plan, samples)))
    if kept.is_dir():
        progress("taking up the finished calibration", 1, 1)
        return load_record(kept), kept
    seen = run_calibration(source.path, plan, samples, device=device, progress=progress)
    save_record(seen, kept)
    return seen, kept


def _given_record(source: Checkpoint, plan: Plan, record: Path) -> CalibrationRecord:
    """A record made earlier, if it belongs to this source and has all that the plan needs.

    Raises:
        Inconsistent: it was made from another checkpoint.
        NonFiniteAmax: it lacks an input.
        Unreadable: it is damaged, or not there.
    """
    inside = record / OWN
    seen = load_record(inside if (inside / "record.json").exists() else record)
    same_weights = not seen.source_weights or seen.source_weights == source.weights_sample()
    if seen.source_fingerprint != plan.fingerprint or not same_weights:
        raise Inconsistent(
            "made from another checkpoint",
            where=str(record),
            expected="a record of this SRC",
            fix=f"calibrate this SRC: its {'config or tensors differ' if same_weights else 'weights differ'} "
            "from the record's",
        )
    for tensor in plan.packed:
        if tensor.input_site:
            input_scale(tensor, seen)
    return seen


def _kept_name(name: str, digest: str) -> str:
    """A finished calibration waits beside OUT under this name until the checkpoint is whole."""
    return f".{name}.q3omni-record-{digest}"


def _digest(source: Checkpoint, plan: Plan, samples: Sequence[Conversation]) -> str:
    """What must be equal for a finished calibration to be taken up: code, plan, weights and conversations."""
    # Weights, tokenizer, processor and template: whatever a calibration reads from SRC.
    files = sorted(file for file in source.path.iterdir() if file.is_file())
    weights = [(file.name, stat.st_size, stat.st_mtime_ns) for file in files for stat in (file.stat(),)]
    parts = (__version__, plan.fingerprint, plan.recipe, repr(weights), digest(samples))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
