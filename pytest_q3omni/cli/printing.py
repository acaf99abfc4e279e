"""How results leave: standard output, files, an exit code; and progress, which goes to standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import NoReturn

import typer

from pytest_q3omni.cli.options import ReportFormat
from pytest_q3omni.errors import InvalidRequest
from pytest_q3omni.records import CalibrationRecord, Judgement, Parity, Plan, Progress, no_progress


def report_judgement(
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
        emit(terminal.render_judgement(judgement), out)
    else:
        render = json.render_judgement if output is ReportFormat.json else html.render_judgement
        emit(render(judgement, record=record, parity=parity), out)
    missing = [name for name in require if judgement.verdict(name).state == "not checked"]
    if judgement.failed:
        raise typer.Exit(1)
    if missing:
        reasons = "; ".join(f"{name}: {judgement.verdict(name).why}" for name in missing)
        stop(f"required, but not checked: {reasons}")


def check_files(out: Path | None, report: Path | None, *judged: Path | str | None) -> None:
    """Refuse files that cannot be written before the work that they are to hold, and those of what is `judged`.

    Raises:
        InvalidRequest: a directory, a file of a checkpoint, or a report that is neither a page nor JSON.
        Unwritable: no such place.
    """
    from pytest_q3omni.omni.durable import check_new_file

    for file in (out, report):
        if file is not None:
            check_new_file(file)
            _check_other(file, judged)
    if report is not None and report.suffix.lower() not in (".html", ".htm", ".json"):
        raise InvalidRequest(
            f"a report that ends in {report.suffix or 'nothing'}", where=str(report), expected=".html or .json",
            fix="name it .html to read it, .json for machines",
        )  # fmt: skip


def _check_other(file: Path, judged: Iterable[Path | str | None]) -> None:
    homes = [Path(place).resolve() for place in judged if place is not None]
    if file.is_file() and any(file.resolve().is_relative_to(home) for home in homes):
        expected, fix = "a file outside the checkpoint, or a new one", "choose another name"
        raise InvalidRequest("belongs to the checkpoint", where=str(file), expected=expected, fix=fix)


def emit(text: str, out: Path | None) -> None:
    """Print a result, or write it to a file: the whole of it, or nothing."""
    if out is None:
        show(text)
        return
    from pytest_q3omni.omni.durable import write_file

    try:
        write_file(out, f"{text}\n".encode())
    except OSError as error:
        stop(f"{out}: {error.strerror}. Fix: choose a place that can be written")


def write_report(
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
        emit(json.render_judgement(judgement, record=record, parity=parity), file)
    else:
        emit(html.render_judgement(judgement, plan=plan, record=record, parity=parity), file)


@contextmanager
def progress_bars() -> Iterator[Progress]:
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

            def draw(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = bars.add_task(what, total=total)
                bars.update(tasks[what], completed=done, total=total)

            yield draw


def show(text: str) -> None:
    """Print a result. A reader that left (head, less) is no failure of ours and changes no exit code."""
    try:
        typer.echo(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor may Python complain while it closes
    except OSError as error:
        stop(f"standard output: {error.strerror}. Fix: free disk space, or write the result elsewhere")


def stop(message: str) -> NoReturn:
    """Say on standard error why it could not be done, and exit 2."""
    from pytest_q3omni.report.plain import plain

    typer.echo(f"q3omni: {plain(message)}", err=True)
    raise typer.Exit(2)
