"""The public functions: what the verbs of `q3omni` and the pytest fixtures call. Paths may be `str` or `Path`.

Importing this module loads neither torch nor numpy; each function imports what it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from pytest_q3omni.errors import InvalidRequest, Q3OmniError
from pytest_q3omni.records import CalibrationRecord, Judgement, Plan, Progress, Quantized, no_progress

AnyPath = str | PathLike[str]

__all__ = ["calibrate", "demo", "load_record", "plan", "quantize", "verify"]


def plan(
    source: AnyPath,
    recipes: Sequence[str] | None = None,
    *,
    layout: str = "modelopt",
    max_shard_size: str = "5GB",
) -> list[Plan]:
    """Plan recipes for SRC: a checkpoint directory or a config file under any name; without `recipes`, all of them.

    Raises:
        UnknownName: no such recipe or layout.
        Unreadable, Inconsistent, InvalidRequest: SRC cannot be read, is another model, or is quantized already.
    """
    from pytest_q3omni.plan.build import build_plan
    from pytest_q3omni.plan.recipes import recipe_names
    from pytest_q3omni.plan.sizes import parse_size

    return [
        build_plan(Path(source), name, layout_name=layout, max_shard_bytes=parse_size(max_shard_size))
        for name in recipes or recipe_names()
    ]


def calibrate(
    source: AnyPath,
    record: AnyPath,
    *,
    recipe: str,
    conversations: AnyPath,
    device: str = "cpu",
    progress: Progress = no_progress,
) -> CalibrationRecord:
    """Run the conversations through the fake-quantized model and leave the calibration record in directory `record`.

    Raises:
        SamplesFailed: a conversation that the model cannot run; nothing is written.
        InvalidRequest: `record` holds something already, or a conversation is malformed.
        MissingDependency: the `quantize` extra is not installed.
    """
    from pytest_q3omni.calibrate.observe import run_calibration
    from pytest_q3omni.calibrate.record import save_record
    from pytest_q3omni.engines.device import check_device
    from pytest_q3omni.omni.conversations import load_conversations
    from pytest_q3omni.omni.durable import check_new_directory
    from pytest_q3omni.plan.build import build_plan

    if Path(record).resolve().is_relative_to(Path(source).resolve()):
        raise InvalidRequest("RECORD lies in SRC", where=str(record), fix="name a directory outside SRC")
    check_new_directory(Path(record), "RECORD")
    check_device(device)
    planned = build_plan(Path(source), recipe)
    samples = load_conversations(Path(conversations))
    seen = run_calibration(Path(source), planned, samples, device=device, progress=progress)
    save_record(seen, Path(record))
    return seen


def quantize(
    source: AnyPath,
    out: AnyPath,
    *,
    recipe: str,
    conversations: AnyPath | None = None,
    record: AnyPath | None = None,
    layout: str = "modelopt",
    max_memory: str = "2GiB",
    max_shard_size: str = "5GB",
    device: str = "cpu",
    progress: Progress = no_progress,
) -> Quantized:
    """Make the quantized checkpoint `out` from `source` and judge it. See `pipeline.quantize`.

    Raises:
        Q3OmniError: the request, the source, the calibration or the disk does not allow it; `out` does not exist then.
    """
    from pytest_q3omni.pipeline.quantize import quantize_checkpoint
    from pytest_q3omni.plan.sizes import parse_size

    return quantize_checkpoint(
        Path(source),
        Path(out),
        recipe,
        conversations=None if conversations is None else Path(conversations),
        record=None if record is None else Path(record),
        layout=layout,
        max_memory=parse_size(max_memory),
        max_shard_bytes=parse_size(max_shard_size),
        device=device,
        progress=progress,
    )


def load_record(record_or_checkpoint: AnyPath) -> CalibrationRecord:
    """The calibration record in a RECORD directory, or in the `q3omni` folder of a checkpoint.

    Raises:
        Unreadable: there is none, or it is damaged.
    """
    from pytest_q3omni.calibrate.record import load_record as load

    path = Path(record_or_checkpoint)
    inside = path / "q3omni"
    return load(inside if (inside / "record.json").exists() else path)


def verify(
    checkpoint: AnyPath,
    *,
    source: AnyPath | None = None,
    record: AnyPath | None = None,
    require: Sequence[str] = (),
    progress: Progress = no_progress,
) -> Judgement:
    """Judge a checkpoint by its files; a record in `checkpoint/q3omni/` is found by itself.

    Raises:
        Unreadable: the directory or its config.json cannot be read; there is nothing to judge.
        UnknownName: `require` names no verdict.
    """
    from pytest_q3omni.verify.judge import judge

    seen, fault = (load_record(record), None) if record is not None else _own_record(Path(checkpoint))
    return judge(
        Path(checkpoint),
        source=None if source is None else Path(source),
        record=seen,
        record_fault=fault,
        require=require,
        progress=progress,
    )


def _own_record(checkpoint: Path) -> tuple[CalibrationRecord | None, Q3OmniError | None]:
    """The record in a checkpoint's own folder, or what is wrong with it: a damaged one is a finding, not the end."""
    if not (checkpoint / "q3omni" / "record.json").exists():
        return None, None
    try:
        return load_record(checkpoint), None
    except Q3OmniError as error:
        return None, error


def demo(out: AnyPath = "q3omni-demo", *, progress: Progress = no_progress) -> Quantized:
    """The whole way on the built-in tiny model; leaves `original/`, `quantized/` and `report.html` in `out`.

    Raises:
        InvalidRequest: `out` holds something that an earlier demo did not make.
        MissingDependency: the `quantize` extra is not installed.
    """
    from pytest_q3omni.omni.durable import unwritable, write_file
    from pytest_q3omni.pipeline.demo import run_demo
    from pytest_q3omni.report import html

    made = run_demo(Path(out), progress=progress)
    page = html.render_judgement(made.judgement, plan=made.plan, record=made.record)
    try:
        write_file(Path(out) / "report.html", page.encode())
    except OSError as error:
        raise unwritable(error, Path(out) / "report.html") from error
    return made
