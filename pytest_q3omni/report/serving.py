"""What serving benchmarks measured, as a table: original and quantized side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from pytest_q3omni.report.plain import plain
from pytest_q3omni.report.terminal import as_text

Row = Mapping[str, Any]
"""`extra_info` of one benchmark, as `conformance/_serving.py` writes it."""

RANDOM = "Random weights: speed and memory are real, answers mean nothing and are not compared."


def render_serving(rows: Sequence[Row], *, width: int = 120) -> str:
    """A line for each thing measured; then kernels, and what to look at first where the roofline is far away."""
    parts: list[Any] = []
    for marker in dict.fromkeys(row["marker"] for row in rows):
        mine = [row for row in rows if row["marker"] == marker]
        parts += [_table(mine), *_remarks(mine)]
    return as_text(parts, width)


def _table(rows: Sequence[Row]) -> Table:
    first = rows[0]
    title = f"serving on {first['device']}, {first['engine']} {first['versions'].get(first['engine'].lower(), '')}"
    table = Table(title=plain(title.strip()), title_justify="left", title_style="bold")
    for column in ("what", "original", "quantized", "ratio", "of roofline"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for what in dict.fromkeys(row["what"] for row in rows):
        halves = {row["checkpoint"]: row for row in rows if row["what"] == what}
        original, quantized = halves.get("original"), halves.get("quantized")
        name, percents = Text(plain(what)), _percents(original, quantized)
        table.add_row(name, _figure(original), _figure(quantized), _ratio(quantized), percents)
        if what == "load":
            ratio = f"{quantized['memory_ratio']:.2f}x" if quantized and "memory_ratio" in quantized else ""
            table.add_row("weights in memory", _gib(original), _gib(quantized), ratio, "")
        if (original or quantized or {}).get("inter_token_ms"):
            table.add_row("  to the next: p50/p95/p99", _between(original), _between(quantized), "", "")
    return table


def _figure(row: Row | None) -> str:
    """The median, and how far the quartiles lie from it."""
    if row is None:
        return "not measured"
    text = f"{row['figure']:,.1f} {row['unit'].replace('tokens', 'tok')}"
    if "spread" not in row:
        return text
    low, high = row["spread"]
    return f"{text} (-{row['figure'] - low:,.1f} +{high - row['figure']:,.1f})"


def _gib(row: Row | None) -> str:
    if row is None:
        return "not measured"
    size = row["weight_bytes"]
    return f"{size / 2**30:.2f} GiB" if size >= 2**27 else f"{size / 2**20:.2f} MiB"


def _between(row: Row | None) -> str:
    if row is None:
        return ""
    return " / ".join(f"{value:.1f}" for value in row["inter_token_ms"].values()) + " ms"


def _ratio(row: Row | None) -> str:
    return f"{row['ratio']:.2f}x" if row is not None and "ratio" in row else ""


def _percents(*rows: Row | None) -> str:
    found = [row["roofline"]["percent"] for row in rows if row is not None and row.get("roofline")]
    return " / ".join(f"{percent:.0f} %" for percent in found)


def _remarks(rows: Sequence[Row]) -> list[Text]:
    """Kernels of each half; weights; hints, each once."""
    said = []
    for half in ("original", "quantized"):
        row = next((row for row in rows if row["checkpoint"] == half), None)
        if row is not None:
            said.append(f"{half} ({row['numerics']}): {_kernels(row['kernels'])}")
    hints = [hint for row in rows for hint in (row.get("roofline") or {}).get("look_first", ())]
    said += [f"look first: {hint}" for hint in dict.fromkeys(hints)]
    said += dict.fromkeys(row["roofline_missing"] for row in rows if row.get("roofline_missing"))
    if any(row["weights"] == "random" for row in rows):
        said.append(RANDOM)
    return [Text(plain(line)) for line in said]


def _kernels(kernels: Mapping[str, Any]) -> str:
    parts = [
        f"{kind} {', '.join(f'{name} x{count}' for name, count in kernels[kind].items())}"
        for kind in ("linear", "experts", "attention")
        if kernels[kind]
    ]
    graphs = "eager, no CUDA graphs" if kernels["cuda_graphs"] == "none" else f"CUDA graphs {kernels['cuda_graphs']}"
    tuning = kernels["expert_tuning"]
    return "; ".join([*parts, graphs, *([f"experts tuned by {tuning}"] if tuning else [])])
