"""Inputs that are rounded to NVFP4: what their scales hold beside what this run saw, site x layer."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from pytest_q3omni.omni.naming import in_layer, input_site
from pytest_q3omni.parity.inputs import LEAST_ROOM, MOST_ROOM
from pytest_q3omni.records import InputRange
from pytest_q3omni.report.html.figures import Cell, HeatMap, Row, Scale, clipped, numbered, within

_SHOWN = 8  # of the fullest inputs; the JSON has all
_LABEL = 28  # characters beside a row
_LARGEST, _SMALLEST = ", largest scale", ", smallest scale"

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
    """One input beside one scale: seen / holds is its share; above 1 the largest values are clipped.

    An input that modules with different scales share is two of these: beside the largest scale, and the smallest.
    """

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
    """count, clipped: of all inputs. fullest: those with the largest share. maps: one for each stack of layers."""

    count: int
    clipped: int
    fullest: list[Input]
    maps: list[HeatMap]


def inputs(ranges: Sequence[InputRange], named: Collection[str]) -> Inputs | None:
    """The figures of `Parity.inputs`; None where no input is rounded. named: what findings name."""
    if not ranges:
        return None
    pairs = [_beside(row) for row in ranges]
    fullest = sorted((each for pair in pairs for each in pair.values()), key=lambda each: -each.share)[:_SHOWN]
    clipped_inputs = sum(any(each.clipped for each in pair.values()) for pair in pairs)
    return Inputs(len(ranges), clipped_inputs, fullest, within(_maps(pairs, named)))


def _beside(row: InputRange) -> dict[str, Input]:
    """The input beside its scale; beside the largest and the smallest one where it has several."""
    if not row.lowest:
        return {"": Input(row.module, row.holds, row.seen)}
    least = Input(row.lowest, row.holds_least, row.seen)
    return {_LARGEST: Input(row.module, row.holds, row.seen), _SMALLEST: least}


def _maps(pairs: Sequence[dict[str, Input]], named: Collection[str]) -> list[HeatMap]:
    stacks: dict[str, dict[tuple[str, str], dict[int, Input]]] = defaultdict(lambda: defaultdict(dict))
    for pair in pairs:
        for which, row in pair.items():
            place = in_layer(input_site(row.module))
            if place is not None:
                stacks[place.stack][place.rest, which][place.number] = row
    return [_map(stack, dict(sorted(sites.items())), named) for stack, sites in stacks.items()]


def _map(stack: str, sites: dict[tuple[str, str], dict[int, Input]], named: Collection[str]) -> HeatMap:
    layers = sorted({number for found in sites.values() for number in found})
    labelled = numbered(len(layers))
    columns = [replace(column, name=str(layer)) for layer, column in zip(layers, labelled, strict=True)]
    rows = []
    for (site, which), found in sites.items():
        cells = [_cell(found.get(layer), named) for layer in layers]
        largest = max(row.share for row in found.values())
        label = clipped(f"{site.rpartition('.')[2].removesuffix('_proj')}{which}", _LABEL)
        rows.append(Row(label, cells, f"{clipped(site, 80)}{which}: at most {largest:.2f} of it"))
    largest = max(row.share for found in sites.values() for row in found.values())
    name = clipped(stack, 80)
    summary = f"largest input seen over what its scale holds, in {name}: at most {largest:.2f}"
    return HeatMap(f"{name}: largest input seen / held, by layer", rows, columns, _SCALE, summary)


def _cell(found: Input | None, named: Collection[str]) -> Cell | None:
    if found is None:
        return None
    return Cell(found.share, f"{found.share:.2f}", f"{found.module}.input_scale" in named)
