"""Sizes as tables: what was planned beside what is there, and layers of equal size as one row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby

from pytest_q3omni.omni.naming import in_layer
from pytest_q3omni.records import Facts, Plan, StageSize

_MOST = 160  # runs of layers; known models have some 20, a stranger's names any number
_CLOSE = 1e-3  # a few scales and norms more or less


@dataclass(frozen=True, slots=True)
class Fact:
    """A figure beside what was planned; planned is None where nobody says. unit: how to print both."""

    name: str
    unit: str
    actual: float
    planned: float | None

    @property
    def differs(self) -> bool:
        """By more than a few scales and norms."""
        return self.planned is not None and abs(self.actual - self.planned) > _CLOSE * max(self.planned, _CLOSE)


def compared(facts: Facts, plan: Plan | None) -> list[Fact]:
    """The checkpoint's figures beside those that its own config plans, or that the plan does which made it."""
    ratio = facts.planned_compression_ratio
    rows = [
        Fact("parameters", "count", facts.parameters, None if plan is None else plan.parameters),
        Fact("tensor bytes", "count", facts.tensor_bytes, None if plan is None else plan.tensor_bytes),
        Fact("bits per parameter", "bits", facts.bits_per_parameter, 16 / ratio if ratio else None),  # of BF16
        Fact("compression ratio", "ratio", facts.compression_ratio, ratio or None),
        Fact("in NVFP4", "share", facts.quantized_fraction, facts.planned_quantized_fraction if ratio else None),
    ]
    return [*rows, Fact("in FP8", "share", facts.fp8_fraction, None)] if facts.fp8_fraction else rows


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring layers of equal size: `numbers` are "0-47", or "" of what is outside the layers."""

    stack: str
    numbers: str
    layers: int
    size: StageSize

    @property
    def bits(self) -> float:
        return bits(self.size)


@dataclass(frozen=True, slots=True)
class Runs:
    """shown: of all runs the first ones, in the order of the model. left_out: how many follow."""

    shown: list[Run]
    left_out: int


def runs(sizes: Mapping[str, StageSize]) -> Runs:
    """The table of `Facts.layers`."""
    rows: list[tuple[str, int | None, StageSize]] = []
    for name, size in sizes.items():
        found = in_layer(name)
        rows.append((name, None, size) if found is None else (found.stack, found.number, size))
    found_runs = list(_runs(rows))
    return Runs(found_runs[:_MOST], max(0, len(found_runs) - _MOST))


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


def bits(size: StageSize) -> float:
    """Bits per parameter, 0 where there is none."""
    return 8 * size.tensor_bytes / size.parameters if size.parameters else 0.0
