"""What calibration saw: conversations, and tokens for every expert, layer and modality."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pytest_q3omni.omni.naming import in_layer
from pytest_q3omni.records import CalibrationRecord
from pytest_q3omni.report.html.figures import Cell, HeatMap, Row, Scale, clipped, numbered, shortened, within

_STEPS = tuple(step * 10**power for power in range(9) for step in (1, 3))
_SHADES = 6
_MOST = 60  # rows of the table; the real model has two stacks and three modalities


@dataclass(frozen=True, slots=True)
class Modality:
    """One modality in one stack of layers. tokens: in the layer with most; a token counts for each of its experts."""

    name: str
    stack: str
    conversations: int
    tokens: int
    fewest: int
    most: int
    experts: int
    uncovered_experts: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """modalities: rows of the table. maps: one picture each."""

    modalities: list[Modality]
    maps: list[HeatMap]


Layers = list[tuple[str, tuple[int, ...]]]


def coverage(record: CalibrationRecord) -> Coverage:
    """The figures of `CalibrationRecord.expert_tokens`. All maps share one scale: modalities can be compared."""
    scale = _scale(
        count for layers in record.expert_tokens.values() for experts in layers.values() for count in experts
    )
    modalities, maps = [], []
    for name, found in record.expert_tokens.items():
        for stack, layers in _stacks(found).items():
            modality = _modality(name, stack, layers, record.samples.get(name, 0))
            modalities.append(modality)
            maps.append(_map(modality, layers, scale))
    return Coverage(modalities[:_MOST], within(maps))


def _stacks(layers: Mapping[str, tuple[int, ...]]) -> dict[str, Layers]:
    """Stack -> its layers (label, tokens per expert) by number. A module that is in no layer is a stack of its own."""
    numbered_layers: dict[str, list[tuple[int, str, tuple[int, ...]]]] = defaultdict(list)
    for module, experts in layers.items():
        found = in_layer(module)
        if found is None:
            numbered_layers[module].append((0, "0", experts))
        else:
            numbered_layers[found.stack].append((found.number, str(found.number), experts))
    return {
        stack: [(label, experts) for _, label, experts in sorted(found)] for stack, found in numbered_layers.items()
    }


def _modality(name: str, stack: str, layers: Layers, conversations: int) -> Modality:
    counts = [count for _, experts in layers for count in experts]
    return Modality(
        name=name,
        stack=stack,
        conversations=conversations,
        tokens=max((sum(experts) for _, experts in layers), default=0),
        fewest=min(counts, default=0),
        most=max(counts, default=0),
        experts=len(counts),
        uncovered_experts=counts.count(0),
    )


def _map(modality: Modality, layers: Layers, scale: Scale) -> HeatMap:
    widest = max((len(experts) for _, experts in layers), default=0)
    rows = []
    for label, experts in layers:
        cells: list[Cell | None] = [Cell(count, f"{count:,}", count == 0) for count in experts]
        none = [index for index, count in enumerate(experts) if not count]
        title = f"layer {label}: {min(experts, default=0):,} to {max(experts, default=0):,} tokens"
        title += f"; none in {shortened(none)}" if none else ""
        rows.append(Row(label, cells + [None] * (widest - len(experts)), title))
    name, stack = clipped(modality.name, 40), clipped(modality.stack, 80)
    summary = (
        f"{name} tokens for each expert of {stack}: {modality.fewest:,} to {modality.most:,}; "
        f"{modality.uncovered_experts:,} of {modality.experts:,} have none"
    )
    return HeatMap(f"{name}, {stack}", rows, numbered(widest), scale, summary)


def _scale(counts: Iterable[int]) -> Scale:
    """No tokens, then at most six classes between 1-3-10 steps that the counts need."""
    found = [count for count in counts if count]
    low, high = min(found, default=1), max(found, default=1)
    steps = [step for step in _STEPS if low < step <= high]
    if len(steps) >= _SHADES:
        steps = [step for step in steps if str(step)[0] == "1"]
    while len(steps) >= _SHADES:
        steps = steps[::2]
    edges = [1, *steps]
    labels = [f"{begin:,}–{end - 1:,}" for begin, end in zip(edges, steps, strict=False)]
    shades = [f"s{round(index * (_SHADES - 1) / max(len(steps), 1))}" for index in range(len(edges))]
    return Scale((1, *steps), ("no tokens", *labels, f"≥ {edges[-1]:,}"), ("none", *shades))
