"""Errors of packed weights against the source: layer x (attention, experts), the largest ones, and per projection."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_q3omni.omni.naming import expert_number, in_layer
from pytest_q3omni.report.html.figures import (
    MOST_COLUMNS,
    MOST_ROWS,
    Cell,
    Column,
    HeatMap,
    Row,
    Scale,
    clipped,
    numbered,
    within,
)
from pytest_q3omni.report.html.places import Places
from pytest_q3omni.verify.comparison import NOISE

_SHOWN = 8  # of the largest errors; the JSON has all
_KINDS = 60  # of projections; known models have fewer than 20
_ATTENTION = 3  # width of a column that is no expert: there are few of them

RELATIVE = Scale(
    bounds=(0.08, NOISE[0], 0.095, NOISE[1], 0.1, 0.11),
    labels=("< 0.08", "0.08–0.093", "0.093–0.095", "0.095–0.097", "0.097–0.10", "0.10–0.11", "≥ 0.11"),
    shades=("s0", "s1", "s2", "s3", "s4", "h0", "h1"),
)
_BLOCK = Scale(
    bounds=(0.12, 0.14, 0.16, 0.18, 0.2, 0.25),
    labels=("< 0.12", "0.12–0.14", "0.14–0.16", "0.16–0.18", "0.18–0.20", "0.20–0.25", "≥ 0.25"),
    shades=("s0", "s1", "s2", "s3", "s4", "h0", "h1"),
)

Errors = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Projection:
    """All tensors of one kind: how many, mean and largest relative error, largest error of a block."""

    name: str
    tensors: int
    mean: float
    largest: float
    block: float


@dataclass(frozen=True, slots=True)
class Weights:
    """maps: of relative errors and of worst blocks, for each stack of layers. sound: the range of sound tensors."""

    tensors: int
    maps: list[HeatMap]
    projections: list[Projection]
    largest: list[tuple[str, float, float]]
    largest_block: list[tuple[str, float, float]]
    sound: tuple[float, float] = NOISE


def weights(errors: Errors, places: Places) -> Weights | None:
    """The figures of `Judgement.tensor_errors`; None where nothing was compared. places: what findings name."""
    if not errors:
        return None
    rows = [(name, *pair) for name, pair in errors.items()]
    return Weights(
        tensors=len(rows),
        maps=_maps(errors, places),
        projections=_projections(errors)[:_KINDS],
        largest=sorted(rows, key=lambda row: -row[1])[:_SHOWN],
        largest_block=sorted(rows, key=lambda row: -row[2])[:_SHOWN],
    )


def _projections(errors: Errors) -> list[Projection]:
    kinds: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for name, pair in errors.items():
        kinds[_kind(name)].append(pair)
    return [
        Projection(
            kind,
            len(pairs),
            sum(relative for relative, _ in pairs) / len(pairs),
            max(relative for relative, _ in pairs),
            max(block for _, block in pairs),
        )
        for kind, pairs in kinds.items()
    ]


def module_of(tensor: str) -> str:
    """The module of a codes tensor, whatever the layout calls that."""
    return tensor.rpartition(".")[0] or tensor


def _kind(tensor: str) -> str:
    """A tensor's name without its numbers: all experts of all layers are one kind."""
    module = module_of(tensor)
    found = in_layer(module)
    if found is None:
        return module
    expert = expert_number(found.rest)
    rest = found.rest if expert is None else found.rest.replace(f".{expert}.", ".*.", 1)
    return f"{found.stack}.*.{rest}"


@dataclass(slots=True)
class _Stack:
    """One stack of layers: (layer, column) -> errors of its tensors; columns are names or experts.

    What a finding names and nobody compared has a cell as well, without errors.
    """

    cells: dict[tuple[int, str | int], list[tuple[float, float]]]

    @property
    def layers(self) -> list[int]:
        return sorted({layer for layer, _ in self.cells})

    @property
    def others(self) -> list[str]:
        return list(dict.fromkeys(column for _, column in self.cells if isinstance(column, str)))[:MOST_ROWS]

    @property
    def experts(self) -> int:
        return min(MOST_COLUMNS, 1 + max((column for _, column in self.cells if isinstance(column, int)), default=-1))


def _maps(errors: Errors, places: Places) -> list[HeatMap]:
    stacks: dict[str, _Stack] = {}
    for tensor, pair in errors.items():
        found = in_layer(module_of(tensor))
        if found is not None:
            expert = expert_number(found.rest)
            stack = stacks.setdefault(found.stack, _Stack(defaultdict(list)))
            stack.cells[found.number, found.rest if expert is None else expert].append(pair)
    columns = {name: {*stack.others} for name, stack in stacks.items()}
    for spot in places:
        if spot.stack in stacks and (isinstance(spot.column, int) or spot.column in columns[spot.stack]):
            stacks[spot.stack].cells.setdefault((spot.number, spot.column), [])  # nothing was compared
    kinds = ((0, "relative error", RELATIVE), (1, "error of the worst block of 16", _BLOCK))
    return within([_map(name, stack, *kind, places) for name, stack in stacks.items() for kind in kinds])


def _map(name: str, stack: _Stack, which: int, what: str, scale: Scale, places: Places) -> HeatMap:
    others, experts = stack.others, stack.experts
    columns = [Column(_short(other), _ATTENTION) for other in others]
    keys: list[str | int | None] = [*others]
    if others and experts:
        columns, keys = [*columns, Column("", labelled=False)], [*keys, None]
    columns, keys = [*columns, *numbered(experts)], [*keys, *range(experts)]
    rows = []
    for layer in stack.layers:
        anchors = ["" if key is None else places.cell(name, layer, key) for key in keys]
        found = [None if key is None else stack.cells.get((layer, key)) for key in keys]
        cells = [_cell(pairs, which, anchor) for pairs, anchor in zip(found, anchors, strict=True)]
        shown = [cell.value for cell in cells if cell is not None and cell.value is not None]
        span = f"{min(shown):.4f} to {max(shown):.4f}" if shown else "not compared"
        rows.append(Row(str(layer), cells, f"layer {layer}: {span}"))
    values = [pair[which] for cell in stack.cells.values() for pair in cell]
    label = clipped(name, 80)
    summary = f"{what} of {len(values):,} packed weights in {label}: {min(values):.4f} to {max(values):.4f}"
    return HeatMap(f"{label}: {what}", rows, columns, scale, summary)


def _cell(found: list[tuple[float, float]] | None, which: int, anchor: str) -> Cell | None:
    """The worst of its projections; the first map has the anchor."""
    if found is None:
        return None
    value = max((pair[which] for pair in found), default=None)
    text = "–" if value is None else f"{value:.4f}"
    return Cell(value, text, bool(anchor), "" if which else anchor)


def _short(rest: str) -> str:
    """`q` for `self_attn.q_proj`: what fits above a column."""
    return rest.rpartition(".")[2].removesuffix("_proj")
