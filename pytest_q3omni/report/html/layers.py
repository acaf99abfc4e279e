"""Stage x layer: bits per parameter, and with a source the error of the packed weights, mean and worst."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from pytest_q3omni.omni.naming import in_layer
from pytest_q3omni.records import StageSize
from pytest_q3omni.report.html.figures import Cell, Column, HeatMap, Row, Scale, clipped, number, numbered, within
from pytest_q3omni.report.html.places import Places
from pytest_q3omni.report.html.sizes import bits
from pytest_q3omni.report.html.weights import RELATIVE, Errors, module_of

_LABEL = 28  # characters of a stack's name beside its row: what a phone has room for

_BITS = Scale(
    bounds=(5.0, 7.0, 9.0, 15.9, 16.1),
    labels=("< 5 (NVFP4)", "5–7", "7–9 (FP8)", "9–15.9", "16 (BF16)", "> 16"),
    shades=("s0", "s1", "s2", "s3", "s4", "h0"),
)

_Layers = TypeVar("_Layers")


def layer_maps(sizes: Mapping[str, StageSize], errors: Errors, places: Places) -> list[HeatMap]:
    """The maps of `Facts.layers` and `Judgement.tensor_errors`, stacks of layers down, layers across."""
    maps = [_bits_map(sizes, places), _error_map(errors, places)]
    return within([each for each in maps if each is not None])


def _bits_map(sizes: Mapping[str, StageSize], places: Places) -> HeatMap | None:
    stacks: dict[str, dict[int, Cell]] = defaultdict(dict)
    for name, size in sizes.items():
        found = in_layer(name)
        if found is not None:
            value, anchor = bits(size), places.layer(found.stack, found.number)
            stacks[found.stack][found.number] = Cell(value, _short(value), bool(anchor), anchor)
    if not stacks:
        return None
    rows = [(stack, label, cells, "bits per parameter") for (stack, cells), label in _labelled(stacks)]
    return _map("Bits per parameter", rows, _BITS)


def _short(value: float) -> str:
    """`4.57`, and `16` where it is exactly that."""
    return f"{value:.2f}".removesuffix(".00")


def _error_map(errors: Errors, places: Places) -> HeatMap | None:
    stacks: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for tensor, (relative, _) in errors.items():
        found = in_layer(module_of(tensor))
        if found is not None:
            stacks[found.stack][found.number].append(relative)
    if not stacks:
        return None
    rows = []
    for (stack, layers), label in _labelled(stacks):
        means = {n: Cell(mean := sum(of) / len(of), f"{mean:.4f}") for n, of in layers.items()}
        worst = {n: Cell(max(of), f"{max(of):.4f}", places.failed(stack, n)) for n, of in layers.items()}
        rows.append((stack, f"{label}: mean", means, "mean relative error"))
        rows.append((stack, f"{label}: worst", worst, "worst relative error"))
    return _map("Relative error of packed weights", rows, RELATIVE)


def _labelled(stacks: Mapping[str, _Layers]) -> list[tuple[tuple[str, _Layers], str]]:
    """Stacks with their labels: without the last names, where that leaves them apart."""
    short = [stack.removesuffix(".layers").removesuffix(".blocks").removesuffix(".model") for stack in stacks]
    labels = short if len(set(short)) == len(short) and all(short) else list(stacks)
    return list(zip(stacks.items(), (clipped(label, _LABEL) for label in labels), strict=True))


def _map(caption: str, rows: Sequence[tuple[str, str, Mapping[int, Cell], str]], scale: Scale) -> HeatMap:
    layers = sorted({layer for _, _, cells, _ in rows for layer in cells})
    columns: list[Column] = [
        replace(column, name=str(layer)) for layer, column in zip(layers, numbered(len(layers)), strict=True)
    ]
    drawn, summaries = [], []
    for stack, label, cells, what in rows:
        values = [cell.value for cell in cells.values() if cell.value is not None]
        summary = f"{clipped(stack, 80)}: {number(min(values))} to {number(max(values))} {what} in {len(cells)} layers"
        drawn.append(Row(label, [cells.get(layer) for layer in layers], summary))
        summaries.append(summary)
    return HeatMap(caption, drawn, columns, scale, "; ".join(summaries[:12]))
