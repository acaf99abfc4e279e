"""Quantize: plan, calibrate where activations matter, pack, verify. Everything that can be refused is refused first."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import cast

from pytest_q3omni import __version__
from pytest_q3omni.calibrate.record import load_record, save_record
from pytest_q3omni.errors import Inconsistent, InvalidRequest
from pytest_q3omni.omni.checkpoint import CONFIG, open_checkpoint
from pytest_q3omni.pack.write import write_checkpoint
from pytest_q3omni.plan.build import build_plan
from pytest_q3omni.records import CalibrationRecord, Plan, Progress, Quantized, no_progress
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
    plan = build_plan(source, recipe, layout_name=layout, max_shard_bytes=max_shard_bytes)
    _check_calibration(plan, conversations, record)
    checkpoint = open_checkpoint(source)
    seen, files = _calibration(source, plan, out, conversations, record, device, progress)
    write_checkpoint(checkpoint, plan, out, record=seen, record_files=files, max_memory=max_memory, progress=progress)
    for kept in out.parent.glob(_kept_name(out, "*")):
        shutil.rmtree(kept)
    return Quantized(plan, seen, judge(out, source=source, record=seen, progress=progress))


def _check_places(source: Path, out: Path) -> None:
    """Refuse an OUT that is, holds, or lies in SRC, or that already holds something."""
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
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        whole = "a checkpoint" if (out / CONFIG).exists() else "something else"
        raise InvalidRequest(
            f"already holds {whole}",
            where=str(out),
            expected="a new or empty directory",
            fix="choose another OUT, or delete this one yourself",
        )


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
    source: Path,
    plan: Plan,
    out: Path,
    conversations: Path | None,
    record: Path | None,
    device: str,
    progress: Progress,
) -> tuple[CalibrationRecord | None, Path | None]:
    """The record and its files: given, kept from an interrupted run, or made now. None where nothing needs one."""
    if plan.numerics != "w4a4":
        return None, None
    if record is not None:
        seen = load_record(record)
        if seen.source_fingerprint != plan.fingerprint:
            raise Inconsistent(
                "made from another checkpoint",
                where=str(record),
                expected="a record of this SRC",
                fix="calibrate this SRC: its config or tensors differ from the record's",
            )
        return seen, record
    from pytest_q3omni.omni.conversations import load_conversations

    samples = load_conversations(cast("Path", conversations))  # _check_calibration saw to it
    kept = out.with_name(_kept_name(out, _digest(plan, cast("Path", conversations))))
    if kept.is_dir():
        return load_record(kept), kept
    from pytest_q3omni.calibrate.observe import run_calibration

    seen = run_calibration(source, plan, samples, device=device, progress=progress)
    save_record(seen, kept)
    return seen, kept


def _kept_name(out: Path, digest: str) -> str:
    """A finished calibration waits beside OUT under this name until the checkpoint is whole."""
    return f".{out.name}.q3omni-record-{digest}"


def _digest(plan: Plan, conversations: Path) -> str:
    parts = (__version__, plan.fingerprint, plan.recipe, hashlib.sha256(conversations.read_bytes()).hexdigest())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
