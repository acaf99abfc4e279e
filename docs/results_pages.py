"""Distilled results as Markdown: the page with everything, and the README's short block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from as_markdown import table
from results_agreement import section as agreement

from pytest_q3omni.serve.throughput import spread

BEGIN, END = "<!-- results: begin (python docs/results.py) -->", "<!-- results: end -->"
HEAD = """# Results

<!-- Written by `python docs/results.py` from docs/results/*.json: run it again, do not edit. -->

What real runs gave. Original and quantized checkpoint ran in one session, one after the other, in the same engine on
the same device; each figure is the median of rounds after two warm-ups, with the quartiles in brackets. Rates are of
all sequences together, over whole runs. The ratio is how many times as fast, or as small, the quantized one is. Per
cent are of the [roofline](roofline.md), which no engine reaches. Behind NVFP4 stands what the checkpoint asks for; the
kernels below the table say what was computed (Hopper has no FP4, and runs W4A4 checkpoints weight-only).
"""
NONE_YET = "\nNo run on hardware is recorded yet.\n"
RANDOM = "**Random weights**: speed and memory are real, answers mean nothing."
_GIB = 1 << 30


def numerics_of(result: dict[str, Any]) -> tuple[str, str]:
    """How the two halves are called: BF16, and NVFP4 with what the checkpoint asks for."""
    names = [result[half]["numerics"].upper() for half in ("original", "quantized")]
    return names[0], f"NVFP4 ({names[1]})"


def page(found: dict[str, dict[str, Any]]) -> str:
    """The whole page: a section for each device that was timed, and one for what was compared."""
    timed = "".join(f"\n{section(name, result)}" for name, result in with_points(found).items())
    return HEAD + (timed or NONE_YET) + agreement(found)


def with_points(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The results of devices that were timed; of others it is known only whether answers agree."""
    return {name: result for name, result in found.items() if "points" in result}


def section(name: str, result: dict[str, Any]) -> str:
    """One device: what ran, the plot, the table, and what to look at first."""
    versions = ", ".join(f"{package} {version}" for package, version in result["versions"].items())
    lines = [f"## {result['device']}\n", f"{result['date']}, {result['engine']}; {versions}.", *_weights(result)]
    lines += [f"\n![Tokens per second by sequences at once](results/{name}.svg)\n", whole(result), *_kernels(result)]
    return "\n".join([*lines, *_look_first(result), ""])


def short(found: dict[str, dict[str, Any]]) -> str:
    """The README's block: plot and rates of decoding for each device."""
    timed = with_points(found)
    parts = ["\n## How fast it is\n"] if timed else []
    for name, result in timed.items():
        rows = [row for point, row in _rows(result) if point["kind"] in ("weights", "decode")]
        parts.append(f"![Tokens per second by sequences at once](docs/results/{name}.svg)\n\n{_table(result, rows)}\n")
        told = " ".join([f"{result['device']}, {result['date']}.", *_weights(result)])
        parts.append(f"{told} [All figures](docs/results.md)\n")
    return "\n".join(parts)


def whole(result: dict[str, Any]) -> str:
    """The table of everything that was measured."""
    return _table(result, [row for _, row in _rows(result)])


def _table(result: dict[str, Any], rows: list[tuple[str, ...]]) -> str:
    bf16, packed = numerics_of(result)
    return table(("", bf16, packed, "ratio", f"{bf16}, of the roofline", f"{packed}, of the roofline"), rows)


def _rows(result: dict[str, Any]) -> Iterator[tuple[dict[str, Any], tuple[str, ...]]]:
    """(point, cells): what a point is, both figures, their ratio, per cent of the roofline."""
    sizes = [result[half]["weight_bytes"] for half in ("original", "quantized")]
    gib = tuple(f"{size / _GIB:.2f} GiB" for size in sizes)
    yield {"kind": "weights"}, ("weights in memory", *gib, f"{sizes[0] / sizes[1]:.2f}x", "", "")
    for point in result["points"]:
        halves = [point["original"], point["quantized"]]
        figures = [spread(half["figures"]) for half in halves]
        ratio = figures[1].median / figures[0].median
        if point["unit"] in ("s", "ms"):
            ratio = 1 / ratio
        shown = tuple(f"{_number(one.median)}{_quartiles(one)}" for one in figures)
        yield point, (_what(point), *shown, f"{ratio:.2f}x", *(_percent(half) for half in halves))
        if point["kind"] == "decode" and all(half.get("inter_token_ms") for half in halves):
            between = tuple(" / ".join(_number(half["inter_token_ms"][cut]) for cut in _CUTS) for half in halves)
            told = f"between tokens at {point['at_once']}, ms, p50 / p95 / p99"
            yield {"kind": "between tokens"}, (told, *between, "", "", "")


_CUTS = ("p50", "p95", "p99")


def _what(point: dict[str, Any]) -> str:
    if point["kind"] == "load":
        return "loading, s"
    if point["kind"] == "first token":
        return f"time to first token, {point['prompt_tokens']} in, ms"
    if point["kind"] == "prefill":
        return f"prefill {point['prompt_tokens']}, tokens/s"
    return f"decode at {point['at_once']} ({point['prompt_tokens']} in, {point['new_tokens']} out), tokens/s"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _quartiles(found: Any) -> str:
    return f" ({_number(found.low)} to {_number(found.high)})" if len(found.figures) > 1 else ""


def _percent(half: dict[str, Any]) -> str:
    return f"{half['roofline']['percent']:.0f} %" if half.get("roofline") else ""


def _weights(result: dict[str, Any]) -> list[str]:
    return [RANDOM] if result["weights"] == "random" else []


def _kernels(result: dict[str, Any]) -> Iterator[str]:
    """What computed, by half."""
    yield ""
    for half, name in zip(("original", "quantized"), numerics_of(result), strict=True):
        kernels = result[half]["kernels"]
        parts = [
            f"{kind}: " + ", ".join(f"{kernel} ({count})" for kernel, count in sorted(kernels[kind].items()))
            for kind in ("linear", "experts", "attention")
            if kernels.get(kind)
        ]
        tuning = f"; settings of the experts' kernel: {kernels['expert_tuning']}" if kernels["expert_tuning"] else ""
        yield f"- {name}: {'; '.join(parts)}; CUDA graphs: {kernels['cuda_graphs']}{tuning}."


def _look_first(result: dict[str, Any]) -> Iterator[str]:
    """What stays below the bound, and what to look at first there; once for each hint."""
    hints: dict[str, list[str]] = {}
    for point in result["points"]:
        for half, name in zip(("original", "quantized"), numerics_of(result), strict=True):
            for hint in (point[half].get("roofline") or {}).get("look_first", ()):
                place = f"at {point['at_once']}" if point["kind"] == "decode" else f"prefill {point['prompt_tokens']}"
                hints.setdefault(hint, []).append(f"{name} {place}")
    if hints:
        yield "\nFar below the roofline, and what to look at first:\n"
        yield from (f"- {', '.join(places)}: {hint}." for hint, places in hints.items())
