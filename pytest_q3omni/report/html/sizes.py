"""Bits per parameter, layer by layer: a bar for each, and equal neighbours as one row of a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from pytest_q3omni.omni.naming import in_layer
from pytest_q3omni.records import StageSize


@dataclass(frozen=True, slots=True)
class Bar:
    """One layer: its number, its name and its bits per parameter."""

    number: int
    name: str
    bits: float

    @property
    def height(self) -> float:
        """Per cent of 16 bits; more than 16 (float32) fills the bar."""
        return min(100.0, 100 * self.bits / 16)


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring layers of equal size: `numbers` are "0-47", or "" of what is outside the layers."""

    stack: str
    numbers: str
    layers: int
    size: StageSize

    @property
    def bits(self) -> float:
        return _bits(self.size)


@dataclass(frozen=True, slots=True)
class Layers:
    """stacks: layers of one kind -> their bars. runs: all of the checkpoint."""

    stacks: Mapping[str, list[Bar]] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)


def layers(sizes: Mapping[str, StageSize]) -> Layers | None:
    """Pictures and table of `Facts.layers`; None where it has none."""
    if not sizes:
        return None
    stacks: dict[str, list[Bar]] = {}
    rows: list[tuple[str, int | None, StageSize]] = []
    for name, size in sizes.items():
        found = in_layer(name)
        if found is None:
            rows.append((name, None, size))
        else:
            rows.append((found.stack, found.number, size))
            stacks.setdefault(found.stack, []).append(Bar(found.number, name, _bits(size)))
    return Layers(stacks, list(_runs(rows)))


def _runs(rows: Iterable[tuple[str, int | None, StageSize]]) -> Iterable[Run]:
    for (stack, size, _), group in groupby(enumerate(rows), key=lambda item: _same(*item)):
        numbers = [number for _, (_, number, _) in group]
        first, last = numbers[0], numbers[-1]
        label = "" if first is None else str(first) if first == last else f"{first}–{last}"
        yield Run(stack, label, len(numbers), size)


def _same(place: int, row: tuple[str, int | None, StageSize]) -> tuple[str, StageSize, int]:
    """Equal for neighbours of the same size: number minus place stays the same along a run."""
    stack, number, size = row
    return stack, size, place if number is None else number - place


def _bits(size: StageSize) -> float:
    return 8 * size.tensor_bytes / size.parameters if size.parameters else 0.0
