"""The verbs: parse, call the api, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pytest_q3omni import __version__
from pytest_q3omni.cli.options import (
    AskedDepth,
    AskedNumerics,
    Device,
    EngineName,
    Format,
    Out,
    Output,
    Recipe,
    ReportFile,
    ReportFormat,
    Source,
)
from pytest_q3omni.cli.printing import check_files, emit, progress_bars, report_judgement, show, stop, write_report

# Rich markup in help costs 0.1 s at every start.
app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True, pretty_exceptions_enable=False)


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
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="checkpoint directory, hf://owner/name[@revision], or config file")
    ],
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
    from pytest_q3omni.plan.traps import known_traps

    plans = api.plan(source, recipe, layout=layout, max_shard_size=max_shard_size)
    if output is Format.json:
        from pytest_q3omni.report import json

        show(json.render_plans(plans))
        return
    from pytest_q3omni.report import terminal

    said = {made.recipe: (load_recipe(made.recipe).remark(made), known_traps(made)) for made in plans}
    remarks = {name: " ".join(filter(None, texts)) for name, texts in said.items()}
    show(terminal.render_plans(plans, {name: text for name, text in remarks.items() if text}))


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

    with progress_bars() as progress:
        made = api.calibrate(
            source, record, recipe=recipe, conversations=conversations, device=device, progress=progress
        )
    if output is Format.json:
        show((record / "record.json").read_text(encoding="utf-8").rstrip())
        return
    from pytest_q3omni.report import terminal

    show(terminal.render_record(made))


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

    check_files(None, report)
    with progress_bars() as progress:
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
            show(f"{made.plan.recipe} is weight-only: the conversations were not needed.")
        if made.record is not None:
            show(terminal.render_record(made.record))
    write_report(report, made.judgement, plan=made.plan, record=made.record)
    report_judgement(made.judgement, ReportFormat(output.value), None)


@app.command(epilog="Example: q3omni verify CHECKPOINT --source SRC --require faithful")
def verify(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="directory of the checkpoint, or hf://owner/name[@revision]")
    ],
    source: Annotated[Path | None, typer.Option("--source", help="its BF16 original, for `faithful`")] = None,
    record: Annotated[Path | None, typer.Option("--record", help="calibration record, for `calibrated`")] = None,
    require: Annotated[list[str] | None, typer.Option("--require", help="a verdict that must not be left out")] = None,
    all_scales: Annotated[
        bool, typer.Option("--all-scales", help="fetch every block scale of a checkpoint on a hub, not 256 MiB of them")
    ] = False,
    engine: Annotated[
        EngineName | None, typer.Option("--engine", help="for `loads`: let this engine's own loader judge, too")
    ] = None,
    depth: Annotated[
        AskedDepth | None,
        typer.Option("--depth", help="of --engine: headers (the default), bytes, or answers (with --source)"),
    ] = None,
    engine_python: Annotated[
        Path | None, typer.Option("--engine-python", help="of --engine: the interpreter that has it")
    ] = None,
    output: Annotated[ReportFormat, typer.Option("--format", help="what to print")] = ReportFormat.text,
    out: Out = None,
    report: ReportFile = None,
) -> None:
    """Judge a checkpoint by its files: is it really 4-bit, consistent, faithful to its source, calibrated?"""
    from pytest_q3omni import api
    from pytest_q3omni.omni.hub import place_of

    check_files(out, report, checkpoint, source)
    if engine is None and (depth or engine_python):
        stop("--depth and --engine-python belong to --engine. Fix: add --engine vllm, or leave them out")
    with progress_bars() as progress:
        place = place_of(checkpoint, all_scales=all_scales)
        judgement = api.verify(
            place,
            source=source,
            record=record,
            require=require or (),
            engine=engine,
            depth=depth or "headers",
            engine_python=engine_python,
            progress=progress,
        )
    seen = api.find_record(record or place)
    write_report(report, judgement, record=seen)
    report_judgement(judgement, output, out, require or (), record=seen)


@app.command(epilog="Example: q3omni parity ORIGINAL QUANTIZED --conversations samples.jsonl --report parity.html")
def parity(
    original: Annotated[Path, typer.Argument(metavar="ORIGINAL", help="BF16 checkpoint directory")],
    quantized: Annotated[Path, typer.Argument(metavar="QUANTIZED", help="the packed checkpoint made from it")],
    conversations: Annotated[Path | None, typer.Option("--conversations", help="JSON lines of messages")] = None,
    numerics: Annotated[
        AskedNumerics | None,
        typer.Option("--numerics", case_sensitive=False, help="w4a16 or w4a4; without it, all that the files allow"),
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda; without it, cuda where it can")] = None,
    output: Annotated[ReportFormat, typer.Option("--format", help="what to print")] = ReportFormat.text,
    out: Out = None,
    report: ReportFile = None,
) -> None:
    """Does it answer like its original? Both run on transformers; KL per modality, speech, and input scales.

    Exit code 1: it does not, or the judgement of the files that --report and --format html ask for found errors.
    2: it could not be said, for want of answers.
    """
    from pytest_q3omni import api
    from pytest_q3omni.parity.verdict import with_parity
    from pytest_q3omni.report import html, json, terminal

    chosen = None if numerics is None else numerics.value
    check_files(out, report, original, quantized)
    with progress_bars() as progress:
        found = api.parity(
            original, quantized, conversations=conversations, numerics=chosen, device=device, progress=progress
        )
        whole = report is not None or output is ReportFormat.html
        judgement = api.verify(quantized, source=original, progress=progress) if whole else None
    if judgement is not None:
        judgement, record = with_parity(judgement, found), api.find_record(quantized)
        write_report(report, judgement, record=record, parity=found)
    if judgement is not None and output is ReportFormat.html:
        emit(html.render_judgement(judgement, record=record, parity=found), out)
    else:
        emit(json.render_parity(found) if output is ReportFormat.json else terminal.render_parity(found), out)
    if found.failed:
        raise typer.Exit(1)
    if judgement is not None and judgement.failed:
        failed = ", ".join(verdict.name for verdict in judgement.verdicts if verdict.state == "fail")
        typer.echo(f"q3omni: the files' verdicts fail: {failed}. See the report", err=True)
        raise typer.Exit(1)
    if found.verdict.state == "not checked":
        stop(f"{found.verdict.name}: not checked: {found.verdict.why}")


@app.command(epilog="Example: q3omni doctor SRC --recipe nvfp4-default --at-once 8 --context 4096")
def doctor(
    source: Annotated[
        str | None,
        typer.Argument(metavar="[SRC]", help="as of plan, or a packed checkpoint; without it, full-size Qwen3-Omni"),
    ] = None,
    recipe: Recipe = "nvfp4-default",
    engine_python: Annotated[
        Path | None, typer.Option("--engine-python", help="interpreter of an environment that has vLLM")
    ] = None,
    at_once: Annotated[int, typer.Option("--at-once", help="requests whose KV cache has to fit")] = 8,
    context: Annotated[int, typer.Option("--context", help="tokens of each request")] = 4096,
    output: Output = Format.text,
) -> None:
    """Say what this machine can do with a checkpoint, and what is in its way: driver, torch, vLLM, kernels, memory.

    Needs nothing installed. Exit code 1: something that is here is wrong; what is not here fails nothing.
    """
    from pytest_q3omni import api
    from pytest_q3omni.report import json, terminal

    found = api.doctor(source, recipe=recipe, engine_python=engine_python, at_once=at_once, context=context)
    show(json.render_examination(found) if output is Format.json else terminal.render_examination(found))
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

    with progress_bars() as progress:
        made = api.demo(out, progress=progress)
    if output is Format.text:
        from pytest_q3omni.report import terminal

        show(terminal.render_plans([made.plan], {}))
        if made.record is not None:
            show(terminal.render_record(made.record))
        if made.parity is not None:
            show(terminal.render_parity(made.parity, findings=False))
    report_judgement(made.judgement, ReportFormat(output.value), None, record=made.record, parity=made.parity)
    if output is Format.text:
        show(f"Report: {out / 'report.html'}")
