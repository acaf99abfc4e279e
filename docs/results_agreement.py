"""Rows of agreement: which replace which, and the page's section with their table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from as_markdown import table

HEAD = """
## Do the packed weights mean what they should?

Speed means nothing where the answers are wrong. The same prompts, with the same replies, were given twice; the mean of
|delta log p| over their tokens says how far apart the two are, in nats, ± its standard error, and top-1 how often the
most likely token is the same.

- *Packed weights*: against a BF16 twin of the values that they stand for, in the same engine.
- *Controls*: copies with one layer spoiled. Each must be rejected in every modality, or the comparison says nothing.
- *W4A4*: quantized inputs as the engine computes or emulates them, against our own arithmetic. This is what Blackwell
  and Thor compute. Both must be nearer to each other than to inputs left alone, and at least half of what rounding
  inputs does to the answers must be common to both (the correlation of the two effects; unrelated roundings have none).
  Correct ones are far from 1: NVFP4 makes whole steps of differences in the last bit. That both round alike is what is
  shown, not that the answers are good.

*Itself* is the reference against itself: in another batch; of W4A4, with the inputs of all layers moved by one BF16
step here and there, as another order of the same sums does. Bounds and verdicts are those of the run. (On 2026-11-24
the bound of W4A4 was half of what rounding inputs costs, at the full depth of the run, which correct implementations do
not keep.)
"""
_COLUMNS = (
    "",
    "prompts",
    "mean |delta log p|",
    "at most",
    "of the bound",
    "top-1",
    "at least",
    "in common",
    "itself",
    "verdict",
)
_SOUND = {"weights": "packed weights", "inputs": "W4A4, engine against ours"}
_MODALITIES = ("text", "image", "audio", "all")
_WEIGHTS = {"random": "random weights", "real": "the checkpoint's own weights"}
_ONE_RUN = ("marker", "weights", "layers", "engine")
"""What rows of one table have in common."""
_PARTS = ("apart", "noise", "bounds")


def with_weights(rows: Iterable[dict[str, Any]], weights: str | None) -> list[dict[str, Any]]:
    """The rows, each with whose weights ran: what is said, and of the tiny model its own. None: nothing is said.

    Raises:
        ValueError: nothing is said, and a row needs it.
    """
    told = [{**row, "weights": "real" if row["marker"] == "tiny" else weights} for row in rows]
    if any(row["weights"] is None for row in told):
        raise ValueError("whose weights ran cannot be seen in the figures. Fix: say --weights random, or real")
    return told


def merged(before: Iterable[dict[str, Any]], later: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """All rows, in the page's order; a later one replaces that of the same comparison, control and modality.

    The tiny model's rows and a full-size checkpoint's replace only their own kind.
    """
    found = {(_order(row), row["control"], row["modality"]): row for row in (*before, *later)}
    return [found[key] for key in sorted(found, key=lambda key: key[0])]


def _order(row: dict[str, Any]) -> tuple[Any, ...]:
    modality = row["modality"]
    place = _MODALITIES.index(modality) if modality in _MODALITIES else len(_MODALITIES)
    comparison = list(_SOUND).index(row["comparison"])
    return row["marker"] == "tiny", comparison, row["control"] is not None, row["control"] or "", place, modality


def section(found: dict[str, dict[str, Any]]) -> str:
    """The page's section, with a table for each device and kind of weights; "" where nothing was compared."""
    parts = [part for result in found.values() for part in _tables(result)]
    return "\n".join([HEAD, *parts]) if parts else ""


def _tables(result: dict[str, Any]) -> Iterator[str]:
    runs: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in result.get("agreement", ()):
        runs.setdefault(tuple(row[key] for key in _ONE_RUN), []).append(row)
    for rows in runs.values():
        yield f"{_title(result['device'], rows)}\n\n{table(_COLUMNS, [_cells(row) for row in rows])}\n"


def _title(device: str, rows: list[dict[str, Any]]) -> str:
    """What ran, when, and how it came out."""
    first = rows[0]
    dates = ", ".join(sorted({row["date"] for row in rows if row["date"]}))
    known = {row.get("versions", {}).get(first["engine"].lower()) for row in rows}
    versions = ", ".join(sorted(version for version in known if version))
    weights = "the trained tiny model" if first["marker"] == "tiny" else _WEIGHTS[first["weights"]]
    ran = " ".join(part for part in (first["engine"], versions) if part)
    layers = "1 layer" if first["layers"] == 1 else f"{first['layers']} layers"
    failed = sum(not _holds(row) for row in rows)
    outcome = f"**{failed} of {len(rows)} failed**" if failed else f"none of {len(rows)} failed"
    return f"**{device}**, {dates}, {ran}: {weights}, {layers}; {outcome}."


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    apart, noise, bounds = ({name: float(value) for name, value in row[part].items()} for part in _PARTS)
    what = _SOUND[row["comparison"]] if row["control"] is None else f"control: {row['control'].replace('-', ' ')}"
    common = [f"{noise['in_common']:.2f}"] if "in_common" in noise else []
    return (
        what,
        f"{row['modality']} ({row['apart']['prompts']}, {row['apart']['positions']:,} tokens)",
        f"{apart['mean']:.4f} ± {apart['error']:.4f}",
        f"{bounds['mean']:.3g}",
        f"{apart['mean'] / bounds['mean']:.2f}x",
        f"{100 * apart['top1']:.1f} %",
        f"{100 * bounds['top1']:.0f} %" if bounds["top1"] else "",
        f"{apart['in_common']:.2f}, at least {bounds['in_common']:g}" if "in_common" in apart else "",
        ", ".join([f"{noise['mean']:.4f}", f"{100 * noise['top1']:.1f} %", *common]),
        _verdict(row),
    )


def _holds(row: dict[str, Any]) -> bool:
    """Whether it came out as it must. A control's item has all modalities: a row's state says which were rejected."""
    return bool(row["passed"] or (row["control"] is not None and row.get("state") == "fail"))


def _verdict(row: dict[str, Any]) -> str:
    if row["control"] is None:
        failed = "not checked" if row.get("state") == "not checked" else "fail"
        return "pass" if _holds(row) else f"**{failed}**"
    if _holds(row):
        return "rejected, as it must be"
    return "**not rejected**" if "state" in row else "**not rejected in every modality**"
