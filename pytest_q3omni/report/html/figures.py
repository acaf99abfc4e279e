"""What the pictures are made of: numbers as text, classes of values, heat maps and logarithmic axes.

A heat map is drawn as one SVG path per class: 48 layers x 128 experts take some 50 kB, where a rectangle for each
cell would take 400. Colours are CSS classes, so that dark mode and print choose their own.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_SMALL = 16
"""Up to so many columns a heat map is a table that shows its numbers."""
_NAMED = 12
"""Rows whose crossed cells are named in words."""
MOST_ROWS, MOST_COLUMNS = 128, 512
"""What a heat map draws; the largest known models have 94 layers and 512 experts, a stranger's names any number."""
_MOST_CELLS = 70_000
"""What all maps of a section draw together: some 10 bytes each."""


def size(count: int) -> str:
    """Bytes in the largest binary unit that leaves at least 1: `25.65 GiB`."""
    power = min(max(count.bit_length() - 1, 0) // 10, len(_UNITS) - 1)
    return f"{count} bytes" if power == 0 else f"{count / 1024**power:.2f} {_UNITS[power]}"


def number(value: float) -> str:
    """Three significant digits, without an exponent where that is short: `0.00123`, `1.2e-07`."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.3g}" if abs(value) < 1e-4 or abs(value) >= 1e6 else f"{value:,.{_decimals(value)}f}"


def clipped(text: str, most: int) -> str:
    """The text; of a long one its begin and end, and how much is left out: names of strangers have any length."""
    if len(text) <= most:
        return text
    begin, end = text[: most * 2 // 3], text[len(text) - most // 3 :]
    return f"{begin} … {len(text) - len(begin) - len(end):,} characters … {end}"


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
    """A value, its text in a table, and whether it is crossed: what must be seen without colour.

    value: None where there is nothing to show but a cross. anchor: what a link to the cell is called; "" without one.
    """

    value: float | None
    text: str
    crossed: bool = False
    anchor: str = ""


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
    """A picture with text around it; a table of numbers where it is small. note: what is left out of it."""

    caption: str
    rows: Sequence[Row]
    columns: Sequence[Column]
    scale: Scale
    summary: str
    note: str = ""

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
            shade = "" if cell is None else self.shade(cell)
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
        return [(label, shortened(ranges(names))) for label, names in found if names][:_NAMED]

    @property
    def unnamed(self) -> int:
        """Rows with crossed cells beyond those that `named` has."""
        return max(0, sum(any(map(_crossed, row.cells)) for row in self.rows) - _NAMED)

    @property
    def spots(self) -> list[tuple[str, int, int, int]]:
        """(anchor, x, y, width) of the cells that links lead to."""
        found = []
        for y, row in enumerate(self.rows):
            x = 0
            for column, cell in zip(self.columns, row.cells, strict=True):
                if cell is not None and cell.anchor:
                    found.append((cell.anchor, x, y, column.width))
                x += column.width
        return found

    def shade(self, cell: Cell) -> str:
        """The CSS class of a cell, "" where it has no value."""
        return "" if cell.value is None else self.scale.shade(cell.value)

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


def within(maps: Sequence[HeatMap]) -> list[HeatMap]:
    """The maps as far as a page can hold them; each says what it leaves out, and the last one what follows it."""
    shown: list[HeatMap] = []
    cells = 0
    for whole in maps:
        drawn = _bounded(whole)
        cells += len(drawn.rows) * len(drawn.columns)
        if shown and cells > _MOST_CELLS:
            rest = f"{len(maps) - len(shown):,} more maps like this are not drawn"
            return [*shown[:-1], replace(shown[-1], note="; ".join(filter(None, (shown[-1].note, rest))))]
        shown.append(drawn)
    return shown


def _bounded(whole: HeatMap) -> HeatMap:
    rows, columns = len(whole.rows), len(whole.columns)
    notes = [whole.note] if whole.note else []
    notes += [f"the first {MOST_ROWS} of {rows:,} rows"] if rows > MOST_ROWS else []
    notes += [f"the first {MOST_COLUMNS} of {columns:,} columns"] if columns > MOST_COLUMNS else []
    kept = [replace(row, cells=row.cells[:MOST_COLUMNS]) for row in whole.rows[:MOST_ROWS]]
    return replace(whole, rows=kept, columns=whole.columns[:MOST_COLUMNS], note="; ".join(notes))


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


def ranges(names: Sequence[str]) -> list[str]:
    """The names, with "3–7" for numbers that follow each other; two of them stay apart."""
    runs: list[list[str]] = []
    for name in names:
        if runs and name.isdecimal() and runs[-1][-1].isdecimal() and int(name) == int(runs[-1][-1]) + 1:
            runs[-1].append(name)
        else:
            runs.append([name])
    return [text for run in runs for text in ([f"{run[0]}–{run[-1]}"] if len(run) > 2 else run)]


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
