"""The command line: parse, call the api, print. Exit codes: 0 done, 1 judged and failed, 2 could not.

Progress goes to standard error and only to a terminal; results go to standard output and nothing else does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from pytest_q3omni import __version__
from pytest_q3omni.records import CalibrationRecord, Judgement, Parity, Plan, Progress, no_progress

# Rich markup in help costs 0.1 s at every start.
app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True, pretty_exceptions_enable=False)


class Format(StrEnum):
    """How to print a result."""

    text = "text"
    json = "json"


class AskedNumerics(StrEnum):
    """In which numbers a packed checkpoint runs."""

    w4a16 = "w4a16"
    w4a4 = "w4a4"


class ReportFormat(StrEnum):
    """How to print a judgement."""

    text = "text"
    json = "json"
    html = "html"


Source = Annotated[Path, typer.Argument(metavar="SRC", help="BF16 checkpoint directory")]
Recipe = Annotated[str, typer.Option("--recipe", help="recipe name; `q3omni plan` lists them")]
Device = Annotated[str, typer.Option("--device", help="where calibration runs: cpu or cuda")]
Output = Annotated[Format, typer.Option("--format", help="what to print")]
Out = Annotated[Path | None, typer.Option("--out", help="write what would be printed to a file")]
ReportFile = Annotated[
    Path | None, typer.Option("--report", help="write a report, too: a page to read, or FILE.json for machines")
]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="print the version and stop")] = False,
) -> None:
    """Quantize Qwen3-Omni to NVFP4 and prove it: plan, calibrate, quantize, verify, parity."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command(epilog="Example: q3omni plan config.json --recipe nvfp4-default")
def plan(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="checkpoint directory or config file")],
    recipe: Annotated[
        list[str] | None, typer.Option("--recipe", help="may be repeated; without it, all recipes")
    ] = None,
    layout: Annotated[str, typer.Option("--layout", help="export layout")] = "modelopt",
    max_shard_size: Annotated[str, typer.Option("--max-shard-size", help="tensor data per shard")] = "5GB",
    output: Output = Format.text,
) -> None:
    """Say what a recipe makes of a checkpoint: bytes per stage, bits per parameter, file sizes. Reads no weights."""
    from pytest_q3omni import api
    from pytest_q3omni.plan.recipes import recipe as load_recipe

    plans = api.plan(source, recipe, layout=layout, max_shard_size=max_shard_size)
    if output is Format.json:
        from pytest_q3omni.report import json

        _print(json.render_plans(plans))
        return
    from pytest_q3omni.report import terminal

    remarks = {made.recipe: load_recipe(made.recipe).remark(made) for made in plans}
    _print(terminal.render_plans(plans, {name: text for name, text in remarks.items() if text}))


@app.command(epilog="Example: q3omni calibrate SRC RECORD --recipe nvfp4-default --conversations samples.jsonl")
def calibrate(
    source: Source,
    record: Annotated[Path, typer.Argument(metavar="RECORD", help="new directory for the calibration record")],
    recipe: Recipe,
    conversations: Annotated[Path, typer.Option("--conversations", help="JSON lines of messages")],
    device: Device = "cpu",
    output: Output = Format.text,
) -> None:
    """Run conversations through the fake-quantized model and keep what they showed: amax and tokens per expert."""
    from pytest_q3omni import api

    with _progress() as progress:
        made = api.calibrate(
            source, record, recipe=recipe, conversations=conversations, device=device, progress=progress
        )
    if output is Format.json:
        _print((record / "record.json").read_text(encoding="utf-8").rstrip())
        return
    from pytest_q3omni.report import terminal

    _print(terminal.render_record(made))


@app.command(epilog="Example: q3omni quantize SRC OUT --recipe nvfp4-default --conversations samples.jsonl")
def quantize(
    source: Source,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="new directory for the quantized checkpoint")],
    recipe: Recipe,
    conversations: Annotated[Path | None, typer.Option("--conversations", help="JSON lines of messages")] = None,
    record: Annotated[Path | None, typer.Option("--record", help="calibration record made earlier")] = None,
    layout: Annotated[str, typer.Option("--layout", help="export layout")] = "modelopt",
    max_memory: Annotated[str, typer.Option("--max-memory", help="memory for packing")] = "2GiB",
    max_shard_size: Annotated[str, typer.Option("--max-shard-size", help="tensor data per shard")] = "5GB",
    device: Device = "cpu",
    output: Output = Format.text,
    report: ReportFile = None,
) -> None:
    """Calibrate where the recipe needs it, pack, and verify the result against its source."""
    from pytest_q3omni import api

    with _progress() as progress:
        made = api.quantize(
            source,
            out,
            recipe=recipe,
            conversations=conversations,
            record=record,
            layout=layout,
            max_memory=max_memory,
            max_shard_size=max_shard_size,
            device=device,
            progress=progress,
        )
    if output is Format.text:
        from pytest_q3omni.report import terminal

        if made.record is None and conversations is not None:
            _print(f"{made.plan.recipe} is weight-only: the conversations were not needed.")
        if made.record is not None:
            _print(terminal.render_record(made.record))
    _write_report(report, made.judgement, plan=made.plan, record=made.record)
    _report(made.judgement, ReportFormat(output.value), None)


@app.command(epilog="Example: q3omni verify CHECKPOINT --source SRC --require faithful")
def verify(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="the checkpoint to judge")],
    source: Annotated[Path | None, typer.Option("--source", help="its BF16 original, for `faithful`")] = None,
    record: Annotated[Path | None, typer.Option("--record", help="calibration record, for `calibrated`")] = None,
    require: Annotated[list[str] | None, typer.Option("--require", help="a verdict that must not be left out")] = None,
    output: Annotated[ReportFormat, typer.Option("--format", help="what to print")] = ReportFormat.text,
    out: Out = None,
    report: ReportFile = None,
) -> None:
    """Judge a checkpoint by its files: is it really 4-bit, consistent, faithful to its source, calibrated?"""
    from pytest_q3omni import api

    with _progress() as progress:
        judgement = api.verify(checkpoint, source=source, record=record, require=require or (), progress=progress)
    _write_report(report, judgement, record=api.find_record(record or checkpoint))
    _report(judgement, output, out, require or (), record=api.find_record(record or checkpoint))


@app.command(epilog="Example: q3omni parity ORIGINAL QUANTIZED --conversations samples.jsonl --report parity.html")
def parity(
    original: Annotated[Path, typer.Argument(metavar="ORIGINAL", help="BF16 checkpoint directory")],
    quantized: Annotated[Path, typer.Argument(metavar="QUANTIZED", help="the packed checkpoint made from it")],
    conversations: Annotated[Path | None, typer.Option("--conversations", help="JSON lines of messages")] = None,
    numerics: Annotated[
        AskedNumerics | None, typer.Option("--numerics", help="w4a16 or w4a4; without it, all that the files allow")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda; without it, cuda where it can")] = None,
    output: Annotated[ReportFormat, typer.Option("--format", help="what to print")] = ReportFormat.text,
    out: Out = None,
    report: ReportFile = None,
) -> None:
    """Does it answer like its original? Both run on transformers; KL per modality, speech, and input scales."""
    from pytest_q3omni import api
    from pytest_q3omni.parity.verdict import with_parity
    from pytest_q3omni.report import json, terminal

    chosen = None if numerics is None else numerics.value
    with _progress() as progress:
        found = api.parity(
            original, quantized, conversations=conversations, numerics=chosen, device=device, progress=progress
        )
        whole = report is not None or output is ReportFormat.html
        judgement = api.verify(quantized, source=original, progress=progress) if whole else None
    if judgement is not None:
        judgement = with_parity(judgement, found)
        _write_report(report, judgement, record=api.find_record(quantized), parity=found)
    if judgement is not None and output is ReportFormat.html:
        _report(judgement, output, out, record=api.find_record(quantized), parity=found)
        return
    _emit(json.render_parity(found) if output is ReportFormat.json else terminal.render_parity(found), out)
    if found.failed:
        raise typer.Exit(1)


@app.command(epilog="Example: q3omni demo --out /tmp/demo")
def demo(
    out: Annotated[Path, typer.Option("--out", help="directory for original, quantized and report")] = Path(
        "q3omni-demo"
    ),
    output: Output = Format.text,
) -> None:
    """The whole way on the built-in tiny Qwen3-Omni: plan, calibrate, pack, verify, parity. No GPU."""
    from pytest_q3omni import api

    with _progress() as progress:
        made = api.demo(out, progress=progress)
    if output is Format.text:
        from pytest_q3omni.report import terminal

        _print(terminal.render_plans([made.plan], {}))
        if made.record is not None:
            _print(terminal.render_record(made.record))
        if made.parity is not None:
            _print(terminal.render_parity(made.parity, findings=False))
    _report(made.judgement, ReportFormat(output.value), None, record=made.record, parity=made.parity)
    if output is Format.text:
        _print(f"Report: {out / 'report.html'}")


def _report(
    judgement: Judgement,
    output: ReportFormat,
    out: Path | None,
    require: tuple[str, ...] | list[str] = (),
    *,
    record: CalibrationRecord | None = None,
    parity: Parity | None = None,
) -> None:
    """Print or write a judgement, and exit 1 where it failed, 2 where a required verdict was not reached."""
    from pytest_q3omni.report import html, json, terminal

    if output is ReportFormat.text:
        _emit(terminal.render_judgement(judgement), out)
    else:
        render = json.render_judgement if output is ReportFormat.json else html.render_judgement
        _emit(render(judgement, record=record, parity=parity), out)
    missing = [name for name in require if judgement.verdict(name).state == "not checked"]
    if judgement.failed:
        raise typer.Exit(1)
    if missing:
        reasons = "; ".join(f"{name}: {judgement.verdict(name).why}" for name in missing)
        _stop(f"required, but not checked: {reasons}")


def _emit(text: str, out: Path | None) -> None:
    """Print a result, or write it to a file: the whole of it, or nothing."""
    if out is None:
        _print(text)
        return
    from pytest_q3omni.omni.durable import write_file

    try:
        write_file(out, f"{text}\n".encode())
    except OSError as error:
        _stop(f"{out}: {error.strerror}. Fix: choose a place that can be written")


def _write_report(
    file: Path | None,
    judgement: Judgement,
    *,
    plan: Plan | None = None,
    record: CalibrationRecord | None = None,
    parity: Parity | None = None,
) -> None:
    """The report that --report asks for: a page, or JSON where the file's name ends so."""
    if file is None:
        return
    from pytest_q3omni.report import html, json

    if file.suffix.lower() == ".json":
        _emit(json.render_judgement(judgement, record=record, parity=parity), file)
    else:
        _emit(html.render_judgement(judgement, plan=plan, record=record, parity=parity), file)


@contextmanager
def _progress() -> Iterator[Progress]:
    """Bars on standard error where it is a terminal. What foreign libraries print goes there, too."""
    with redirect_stdout(sys.stderr):
        if not sys.stderr.isatty():
            yield no_progress
            return
        from rich.console import Console
        from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        columns = (TextColumn("{task.description:<14}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        with Bars(*columns, console=Console(stderr=True), redirect_stdout=False) as bars:
            tasks: dict[str, TaskID] = {}

            def show(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = bars.add_task(what, total=total)
                bars.update(tasks[what], completed=done, total=total)

            yield show


def _print(text: str) -> None:
    """Print a result. A reader that left (head, less) is no failure of ours and changes no exit code."""
    try:
        typer.echo(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor may Python complain while it closes
    except OSError as error:
        _stop(f"standard output: {error.strerror}. Fix: free disk space, or write the result elsewhere")


def _stop(message: str) -> NoReturn:
    typer.echo(f"q3omni: {message}", err=True)
    raise typer.Exit(2)


def main() -> None:
    """Entry point: every error becomes one line and an exit code."""
    from pytest_q3omni.errors import Q3OmniError

    try:
        app()
    except Q3OmniError as error:
        if os.environ.get("Q3OMNI_DEBUG"):
            raise
        typer.echo(f"q3omni: {error}", err=True)
        sys.exit(2)
    except OSError as error:
        if os.environ.get("Q3OMNI_DEBUG"):
            raise
        place = f"{error.filename}: " if error.filename else ""
        typer.echo(f"q3omni: {place}{error.strerror or error}. Fix: check the path and its permissions", err=True)
        sys.exit(2)
    except Exception as error:  # the last line of defence: a user at 2 a.m. gets a sentence, not a traceback
        if os.environ.get("Q3OMNI_DEBUG"):
            raise
        hint = "This is a bug: run again with Q3OMNI_DEBUG=1 and report the traceback"
        typer.echo(f"q3omni: internal error: {type(error).__name__}: {error}. {hint}", err=True)
        sys.exit(2)
