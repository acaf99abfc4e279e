"""The plot of distilled results: throughput against concurrency, both precisions, with their rooflines dashed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from results_pages import numerics_of

from pytest_q3omni.serve.throughput import spread

INK, GRID = "#768089", "#76808955"
"""Grey that can be read on white and on black, since a page is shown on either."""
COLOURS = {"original": "#d9822b", "quantized": "#2b9e8f"}
_SETTINGS = {
    "svg.hashsalt": "pytest-q3omni",  # otherwise ids are random, and each rendering differs
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def draw(result: dict[str, Any], file: Path) -> None:
    """Write the plot of one device; SVG, or what the file's ending says. Same data and matplotlib, same bytes."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    points = [point for point in result["points"] if point["kind"] == "decode"]
    with rc_context(_SETTINGS):
        figure = Figure(figsize=(7.2, 4.4), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.set_facecolor("none")
        for half, name in zip(("original", "quantized"), numerics_of(result), strict=True):
            _lines(axes, points, half, name)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks([point["at_once"] for point in points])
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("sequences at once")
        axes.set_ylabel("tokens per second, all sequences together")
        axes.grid(True, which="major", color=GRID, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(_title(result), loc="left", fontsize=11)
        axes.legend(frameon=False, loc="upper left")
        metadata = {"Date": None, "Creator": None} if file.suffix == ".svg" else None
        figure.savefig(file, transparent=True, metadata=metadata)


def _lines(axes: Any, points: list[dict[str, Any]], half: str, name: str) -> None:
    """Measured medians with their quartiles, and the roofline where the device is known."""
    at_once = [point["at_once"] for point in points]
    found = [spread(point[half]["figures"]) for point in points]
    medians = [one.median for one in found]
    errors = [[one.median - one.low for one in found], [one.high - one.median for one in found]]
    axes.errorbar(at_once, medians, yerr=errors, color=COLOURS[half], marker="o", markersize=5, linewidth=2, capsize=3,
                  label=f"{name}, measured", zorder=3)  # fmt: skip
    known = [(p["at_once"], p[half]["roofline"]["tokens_per_second"]) for p in points if p[half].get("roofline")]
    if known:
        axes.plot(*zip(*known, strict=True), color=COLOURS[half], linestyle=(0, (4, 3)), linewidth=1.4,
                  label=f"{name}, roofline")  # fmt: skip


def _title(result: dict[str, Any]) -> str:
    random = ", random weights" if result["weights"] == "random" else ""
    first = next(point for point in result["points"] if point["kind"] == "decode")
    return f"{result['device']}: decode, {first['prompt_tokens']} tokens in, {first['new_tokens']} out{random}"
