"""Inputs that are rounded to NVFP4: what their scales hold beside what this run saw, site x layer."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from pytest_q3omni.omni.naming import in_layer, input_site
from pytest_q3omni.parity.inputs import LEAST_ROOM, MOST_ROOM
from pytest_q3omni.records import InputRange
from pytest_q3omni.report.html.figures import Cell, HeatMap, Row, Scale, numbered

_SHOWN = 8  # of the fullest inputs; the JSON has all

_SCALE = Scale(
    bounds=(1 / MOST_ROOM, 1 / 8, 1 / 4, 1 / 2, 1 + 1e-6, 1 / LEAST_ROOM),
    labels=(
        f"< 1/{MOST_ROOM:g}, far too wide",
        f"1/{MOST_ROOM:g}–1/8",
        "1/8–1/4",
        "1/4–1/2",
        "1/2–1",
        f"1–{1 / LEAST_ROOM:g}, clipped",
        f"≥ {1 / LEAST_ROOM:g}, clipped",
    ),
    shades=("s0", "s1", "s2", "s3", "s4", "h0", "h1"),
)
"""Classes of seen / held. Beyond the first and the last bound `parity` finds a misfit."""


@dataclass(frozen=True, slots=True)
class Input:
    """One input with its share of the scale: seen / holds; above 1 the largest values are clipped."""

    module: str
    holds: float
    seen: float

    @property
    def share(self) -> float:
        return self.seen / self.holds if self.holds else math.inf if self.seen else 0.0

    @property
    def clipped(self) -> bool:
        """Seen beyond the scale, by more than rounding."""
        return not self.share <= _SCALE.bounds[4]


@dataclass(frozen=True, slots=True)
class Inputs:
    """count: of all inputs. fullest: those with the largest share. maps: one for each stack of layers."""

    count: int
    clipped: int
    fullest: list[Input]
    maps: list[HeatMap]


def inputs(ranges: Sequence[InputRange], named: Collection[str]) -> Inputs | None:
    """The figures of `Parity.inputs`; None where no input is rounded. named: what findings name."""
    if not ranges:
        return None
    found = [Input(row.module, row.holds, row.seen) for row in ranges]
    fullest = sorted(found, key=lambda row: -row.share)[:_SHOWN]
    return Inputs(len(found), sum(row.clipped for row in found), fullest, _maps(found, named))


def _maps(found: Sequence[Input], named: Collection[str]) -> list[HeatMap]:
    stacks: dict[str, dict[str, dict[int, Input]]] = defaultdict(lambda: defaultdict(dict))
    for row in found:
        place = in_layer(input_site(row.module))
        if place is not None:
            stacks[place.stack][place.rest][place.number] = row
    return [_map(stack, sites, named) for stack, sites in stacks.items()]


def _map(stack: str, sites: dict[str, dict[int, Input]], named: Collection[str]) -> HeatMap:
    layers = sorted({number for found in sites.values() for number in found})
    labelled = numbered(len(layers))
    columns = [replace(column, name=str(layer)) for layer, column in zip(layers, labelled, strict=True)]
    rows = []
    for site, found in sites.items():
        cells = [_cell(found.get(layer), named) for layer in layers]
        largest = max(row.share for row in found.values())
        label = site.rpartition(".")[2].removesuffix("_proj")
        rows.append(Row(label, cells, f"{site}: at most {largest:.2f} of its scale"))
    largest = max(row.share for found in sites.values() for row in found.values())
    summary = f"largest input seen over what its scale holds, in {stack}: at most {largest:.2f}"
    return HeatMap(f"{stack}: largest input seen / held, by layer", rows, columns, _SCALE, summary)


def _cell(found: Input | None, named: Collection[str]) -> Cell | None:
    if found is None:
        return None
    return Cell(found.share, f"{found.share:.2f}", f"{found.module}.input_scale" in named)
