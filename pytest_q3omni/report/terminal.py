"""Tables for people, on a terminal or in a log."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from typing import Literal

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from pytest_q3omni.records import CalibrationRecord, Finding, Judgement, Parity, Plan
from pytest_q3omni.report.plain import plain
from pytest_q3omni.serve.examination import Examination

_STYLE = {"pass": "green", "fail": "bold red", "not checked": "dim"}
_SHOWN_FINDINGS = 40  # more scroll the verdicts off the screen; the JSON names or counts them


def render_plans(plans: Sequence[Plan], remarks: Mapping[str, str], *, width: int = 120) -> str:
    """One table over the recipes, one over the stages, and what there is to know about each recipe."""
    said = (Text(f"{name}: {text}") for name, text in remarks.items())
    return as_text([_recipes(plans), _stages(plans), *said], width)


def _recipes(plans: Sequence[Plan]) -> Group:
    table = _table(
        "recipe",
        "numerics",
        *map(_right, ("tensor bytes", "file bytes", "shards", "bits/param", "smaller", "quantized")),
    )
    for plan in plans:
        table.add_row(
            plan.recipe,
            plan.numerics,
            f"{plan.tensor_bytes:,}",
            f"{plan.file_bytes:,}",
            str(len(plan.shards)),
            f"{plan.bits_per_parameter:.3f}",
            f"{plan.compression_ratio:.2f}x",
            f"{plan.quantized_fraction:.2%}",
        )
    return _titled(f"{plans[0].parameters:,} parameters", table)


def _stages(plans: Sequence[Plan]) -> Group:
    table = _table("stage", _right("parameters"), *(_right(plan.recipe) for plan in plans))
    for stage, size in plans[0].stages.items():
        table.add_row(stage, f"{size.parameters:,}", *(f"{plan.stages[stage].tensor_bytes:,}" for plan in plans))
    return _titled("tensor bytes per stage", table)


def render_judgement(judgement: Judgement, *, width: int = 120) -> str:
    """Sizes, findings, verdicts: the verdicts last, where the eye is when the program ends."""
    parts: list[RenderableType] = [_sizes(judgement)]
    if judgement.fetched is not None:
        fetched = judgement.fetched
        parts.append(Text(f"fetched: {fetched.bytes:,} bytes in {fetched.requests:,} requests, none of the weights\n"))
    parts += [_finding(finding) for finding in judgement.findings[:_SHOWN_FINDINGS]]
    if len(judgement.findings) > _SHOWN_FINDINGS:
        more = len(judgement.findings) - _SHOWN_FINDINGS
        parts.append(Text(f"... and {more} more findings, which --format json names or counts"))
    return as_text([*parts, _verdicts(judgement)], width)


def _sizes(judgement: Judgement) -> Group:
    facts = judgement.facts
    title = (
        f"{plain(judgement.checkpoint)}: {facts.parameters:,} parameters, {facts.tensor_bytes:,} bytes, "
        f"{facts.bits_per_parameter:.2f} bits/parameter, {facts.compression_ratio:.2f}x smaller "
        f"(planned {facts.planned_compression_ratio:.2f}x), "
        f"{facts.quantized_fraction:.2%} quantized"
    )
    table = _table("stage", *map(_right, ("parameters", "bytes in BF16", "bytes now", "packed")))
    for name, size in facts.stages.items():
        packed = size.packed_parameters / size.parameters if size.parameters else 0
        table.add_row(name, f"{size.parameters:,}", f"{size.source_bytes:,}", f"{size.tensor_bytes:,}", f"{packed:.2%}")
    return _titled(title, table)


def _finding(finding: Finding) -> Text:
    text = Text(f"{finding.severity}: ", style="bold red" if finding.severity == "error" else "yellow")
    text.append(plain(finding.where), style="bold")
    for name, value in (("found", finding.found), ("expected", finding.expected), ("fix", finding.fix)):
        text.append(f"\n  {name:<9} {plain(value)}", style="not bold default")
    return text.append(f"\n  check     {finding.check}\n", style="dim")


def _verdicts(judgement: Judgement) -> Table:
    table = _table("verdict", "state", "why")
    for verdict in judgement.verdicts:
        state = Text(verdict.state, style=_STYLE[verdict.state])
        table.add_row(Text(verdict.name), state, Text(plain(verdict.why)))
    return table


def render_record(record: CalibrationRecord, *, width: int = 120) -> str:
    """What calibration saw: samples per modality, and the least-used expert of each layer."""
    table = _table("modality", *map(_right, ("conversations", "tokens", "fewest per expert")))
    for modality, layers in record.expert_tokens.items():
        counts = [count for experts in layers.values() for count in experts]
        tokens = max((sum(experts) for experts in layers.values()), default=0)
        samples, fewest = record.samples.get(modality, 0), min(counts, default=0)
        table.add_row(plain(modality), f"{samples}", f"{tokens:,}", f"{fewest:,}")
    title = (
        f"calibration: {record.samples_passed} of {record.samples_total} conversations passed, "
        f"{len(record.input_amax)} input amax"
    )
    return as_text([_titled(title, table)], width)


def render_parity(parity: Parity, *, findings: bool = True, width: int = 120) -> str:
    """How far the answers are apart, per modality and numerics; what a codebook and a spoken answer show.

    findings: also print them, and the verdict; without it they are left to the judgement that has them, too.
    """
    parts: list[RenderableType] = [_agreements(parity)]
    if parity.speech:
        parts.append(_speech(parity))
    if findings:
        parts += [_finding(finding) for finding in parity.findings]
        state = Text(parity.verdict.state, style=_STYLE[parity.verdict.state])
        parts.append(Text.assemble(f"{parity.verdict.name}: ", state, f": {plain(parity.verdict.why)}"))
    return as_text(parts, width)


def _agreements(parity: Parity) -> Group:
    table = _table(
        "answers",
        "numerics",
        *map(_right, ("tokens", "mean KL", "99 %", "plain", "limit", "top-1", "right", "BF16 right")),
        "state",
    )
    for row in parity.agreements:
        found = row.divergence
        table.add_row(
            row.modality,
            row.numerics.upper(),
            f"{found.tokens:,}",
            f"{found.mean:.2g}",
            f"{found.p99:.2g}",
            f"{row.plain.mean:.2g}",
            f"{row.limit:.2g}" if math.isfinite(row.limit) else "none",
            f"{found.top1:.1%}",
            f"{row.accuracy:.1%}",
            f"{row.original_accuracy:.1%}",
            Text(row.state, style=_STYLE[row.state]),
        )
    device = f" on {plain(parity.device)}" if parity.device else ""
    return _titled(
        f"KL(BF16 || {plain(parity.quantized)}) in nats per answer token{device}; plain: ModelOpt's fake quantization",
        table,
    )


def _speech(parity: Parity) -> Group:
    """The full-size codec has 16 codebooks: a column for each would not fit."""
    table = _table("speech", *map(_right, ("first codebook", "the others")), "equal codes", "SNR of the sound")
    for speech in parity.speech:
        means = [each.mean for each in speech.codebooks]
        others = f"{min(means[1:]):.2g} to {max(means[1:]):.2g}" if means[1:] else "none"
        codes = ", ".join(f"{sample.modality} {sample.equal_codes:.0%}" for sample in speech.samples)
        noise = ", ".join("equal" if each.snr is None else f"{each.snr:.1f} dB" for each in speech.samples)
        table.add_row(speech.numerics.upper(), f"{means[0]:.2g}", others, codes, noise)
    title = "mean KL per codebook, the original's codes forced; and answers that both models speak freely"
    return _titled(title, table)


def render_examination(examination: Examination, *, width: int = 120) -> str:
    """What was asked of a machine, what was found, what that means, and what to do."""
    table = Table(header_style="bold", show_lines=True)
    for name, least in (("asked", 6), ("state", 7), ("found", 30), ("what it means, and what to do", 40)):
        table.add_column(name, overflow="fold", min_width=least)
    for row in examination.rows:
        meaning = Text(plain(row.meaning))
        if row.fix:
            meaning.append(f"\nFix: {plain(row.fix)}", style="bold" if row.state == "fail" else "")
        table.add_row(row.name, Text(row.state, style=_STYLE[row.state]), Text(plain(row.found)), meaning)
    return as_text([table], width)


def _right(name: str) -> tuple[str, Literal["right"]]:
    return name, "right"


def _titled(title: str, table: Table) -> Group:
    """A title above its table: rich would wrap it to the table's width."""
    return Group(Text(f"\n{title}", style="bold"), table)


def _table(*columns: str | tuple[str, Literal["right"]]) -> Table:
    table = Table(header_style="bold")
    for column in columns:
        if isinstance(column, tuple):
            table.add_column(column[0], justify=column[1], overflow="fold")
        else:
            table.add_column(column, overflow="fold")
    return table


def as_text(parts: Iterable[RenderableType], width: int) -> str:
    """Rendered with colour where standard output is a terminal, plain where it is not."""
    probe = Console()
    console = Console(  # without markup: `[bold]` or `:smile:` in a stranger's name is meant as it is spelled
        file=StringIO(), force_terminal=probe.is_terminal, width=probe.width if probe.is_terminal else width,
        markup=False, emoji=False,
    )  # fmt: skip
    for part in parts:
        console.print(part)
    return str(console.file.getvalue()).rstrip()  # type: ignore[attr-defined]  # it is the StringIO above
