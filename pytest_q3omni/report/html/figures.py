"""What the pictures are made of: numbers as text, classes of values, heat maps and logarithmic axes.

A heat map is drawn as one SVG path per class: 48 layers x 128 experts take some 50 kB, where a rectangle for each
cell would take 400. Colours are CSS classes, so that dark mode and print choose their own.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_SMALL = 16
"""Up to so many columns a heat map is a table that shows its numbers."""
_NAMED = 12
"""Rows whose crossed cells are named in words."""


def size(count: int) -> str:
    """Bytes in the largest binary unit that leaves at least 1: `25.65 GiB`."""
    power = min(max(count.bit_length() - 1, 0) // 10, len(_UNITS) - 1)
    return f"{count} bytes" if power == 0 else f"{count / 1024**power:.2f} {_UNITS[power]}"


def number(value: float) -> str:
    """Three significant digits, without an exponent where that is short: `0.00123`, `1.2e-07`."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.3g}" if abs(value) < 1e-4 or abs(value) >= 1e6 else f"{value:,.{_decimals(value)}f}"


def _decimals(value: float) -> int:
    return max(0, 2 - math.floor(math.log10(abs(float(f"{value:.3g}")))))


@dataclass(frozen=True, slots=True)
class Scale:
    """Classes of a value: class k holds bounds[k - 1] <= value < bounds[k]; NaN belongs to the last.

    shades: CSS class of each. labels: what the legend says of each.
    """

    bounds: tuple[float, ...]
    labels: tuple[str, ...]
    shades: tuple[str, ...]

    def shade(self, value: float) -> str:
        return self.shades[bisect_right(self.bounds, value)]

    @property
    def legend(self) -> list[tuple[str, str]]:
        return list(zip(self.shades, self.labels, strict=True))


@dataclass(frozen=True, slots=True)
class Cell:
    """A value, its text in a table, and whether it is crossed: what must be seen without colour."""

    value: float
    text: str
    crossed: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a heat map: its name, `width` in units of one expert, and whether the picture shows the name."""

    name: str
    width: int = 1
    labelled: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """A row: its label, its cells (None: no data), and what the pointer is told."""

    label: str
    cells: Sequence[Cell | None]
    title: str


@dataclass(frozen=True, slots=True)
class HeatMap:
    """A picture with text around it; a table of numbers where it is small."""

    caption: str
    rows: Sequence[Row]
    columns: Sequence[Column]
    scale: Scale
    summary: str

    @property
    def small(self) -> bool:
        return len(self.columns) <= _SMALL

    @property
    def width(self) -> int:
        return sum(column.width for column in self.columns)

    @property
    def paths(self) -> list[tuple[str, str]]:
        """CSS class -> path of the runs of equal cells, as strokes one unit wide."""
        runs: dict[str, list[str]] = defaultdict(list)
        for y, row in enumerate(self.rows):
            for shade, x, length in self._runs(row):
                runs[shade].append(f"M{x} {y}.5h{length}")
        return [(shade, "".join(found)) for shade, found in runs.items()]

    def _runs(self, row: Row) -> Iterable[tuple[str, int, int]]:
        start, x, last = 0, 0, ""
        for column, cell in zip(self.columns, row.cells, strict=True):
            shade = "" if cell is None else self.scale.shade(cell.value)
            if shade != last:
                if last:
                    yield last, start, x - start
                start, last = x, shade
            x += column.width
        if last:
            yield last, start, x - start

    @property
    def crosses(self) -> str:
        """A path with a cross in every crossed cell."""
        strokes = []
        for y, row in enumerate(self.rows):
            x = 0
            for column, cell in zip(self.columns, row.cells, strict=True):
                if _crossed(cell):
                    strokes.append(f"M{x} {y}l{column.width} 1m0-1l-{column.width} 1")
                x += column.width
        return "".join(strokes)

    @property
    def named(self) -> list[tuple[str, str]]:
        """(row, columns) of the crossed cells in words; the first rows of them."""
        found = [
            (row.label, [column.name for column, cell in zip(self.columns, row.cells, strict=True) if _crossed(cell)])
            for row in self.rows
        ]
        rows = [(label, shortened(names)) for label, names in found if names]
        rest = len(rows) - _NAMED
        return rows if rest <= 0 else [*rows[:_NAMED], (f"and {rest} more", "see the picture")]

    def shade(self, cell: Cell) -> str:
        return self.scale.shade(cell.value)

    @property
    def column_ticks(self) -> list[tuple[float, str]]:
        """(middle in per cent, label) of the labelled columns."""
        ticks, x = [], 0
        for column in self.columns:
            if column.labelled:
                ticks.append((100 * (x + column.width / 2) / self.width, column.name))
            x += column.width
        return ticks

    @property
    def row_ticks(self) -> list[tuple[float, str]]:
        """(middle in per cent, label) of every row, or of each second, fourth, ... where they are many."""
        step = _step(len(self.rows), 12)
        return [(100 * (y + 0.5) / len(self.rows), row.label) for y, row in enumerate(self.rows) if y % step == 0]


def _crossed(cell: Cell | None) -> bool:
    return cell is not None and cell.crossed


def numbered(count: int) -> list[Column]:
    """Columns 0 to count - 1; of many only some are labelled."""
    step = 1 if count <= _SMALL else _step(count, 9)
    return [Column(str(index), labelled=index % step == 0) for index in range(count)]


def _step(count: int, most: int) -> int:
    step = 1
    while count > most * step:
        step *= 2
    return step


def shortened(names: Sequence[object], most: int = 20) -> str:
    """The names with commas; of many the first, and how many follow."""
    text = ", ".join(map(str, names[:most]))
    return text if len(names) <= most else f"{text} and {len(names) - most} more"


class LogAxis:
    """A logarithmic axis in per cent of its width. Values that are not positive stand at its left edge, as 0."""

    _EDGE = 6.0  # per cent kept free for zeros

    def __init__(self, values: Iterable[float]) -> None:
        found = [value for value in values if not math.isnan(value)]
        positive = [value for value in found if 0 < value < math.inf]
        self.zero = len(positive) < len(found)
        self.low = math.floor(math.log10(min(positive, default=1e-3)))
        self.high = max(math.ceil(math.log10(max(positive, default=1.0))), self.low + 1)

    def place(self, value: float) -> float:
        """0 to 100."""
        begin = self._EDGE if self.zero else 0.0
        if not value > 0:
            return begin / 3
        share = (math.log10(min(value, 1e300)) - self.low) / (self.high - self.low)
        return begin + (100 - begin) * min(max(share, 0.0), 1.0)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """(place, label) of the decades, of many each second, ..."""
        step = _step(self.high - self.low, 8)
        decades = [(self.place(10.0**power), _decade(power)) for power in range(self.low, self.high + 1, step)]
        return [(self.place(0.0), "0"), *decades] if self.zero else decades


def _decade(power: int) -> str:
    return f"{10.0**power:.{max(0, -power)}f}" if -6 <= power <= 6 else f"1e{power}"
