"""What pictures are made of: numbers as text, classes, runs of cells, axes."""

import math

import pytest

from pytest_q3omni.records import CalibrationRecord
from pytest_q3omni.report.html.coverage import coverage
from pytest_q3omni.report.html.figures import (
    Cell,
    Column,
    HeatMap,
    LogAxis,
    Row,
    Scale,
    clipped,
    number,
    numbered,
    ranges,
    shortened,
    size,
    within,
)
from pytest_q3omni.report.html.png import palette

pytestmark = pytest.mark.tiny

SCALE = Scale((1.0, 2.0), ("low", "middle", "high"), ("s0", "s1", "s2"))


def heat_map(*rows: tuple[float | None, ...], columns: list[Column] | None = None) -> HeatMap:
    cells = [[None if value is None else Cell(value, f"{value}", value > 2) for value in row] for row in rows]
    named = [Row(str(index), row, "") for index, row in enumerate(cells)]
    return HeatMap("", named, columns or numbered(len(rows[0])), SCALE, "")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (0.00123, "0.00123"), (1.2e-7, "1.2e-07"), (0.2184, "0.218"), (80.0, "80.0"), (26880.0, "26,880"),
     (math.inf, "inf"), (math.nan, "nan"), (9.999, "10.0")],
)  # fmt: skip
def test_numbers(value: float, shown: str) -> None:
    assert number(value) == shown


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.00 KiB"), (27_542_850_146, "25.65 GiB")]
)
def test_sizes(count: int, shown: str) -> None:
    assert size(count) == shown


def test_a_class_begins_at_its_bound_and_nan_is_in_the_last() -> None:
    assert [SCALE.shade(value) for value in (0.5, 1.0, 1.99, 2.0, math.inf, math.nan)] == [
        "s0", "s1", "s1", "s2", "s2", "s2",
    ]  # fmt: skip


def test_equal_neighbours_are_one_stroke_and_missing_cells_none() -> None:
    drawn = dict(heat_map((0.0, 0.0, None, 0.0), (1.0, 5.0, 5.0, 1.0)).paths)
    assert drawn == {"s0": "M0 0.5h2M3 0.5h1", "s1": "M0 1.5h1M3 1.5h1", "s2": "M1 1.5h2"}


def test_wide_columns_shift_what_follows() -> None:
    found = heat_map((3.0, 1.0), columns=[Column("q", 3), Column("0")])
    assert dict(found.paths) == {"s2": "M0 0.5h3", "s1": "M3 0.5h1"}
    assert found.crosses == "M0 0l3 1m0-1l-3 1"
    assert found.column_ticks == [(37.5, "q"), (87.5, "0")]
    assert found.named == [("0", "q")]


def test_of_many_crossed_rows_the_first_are_named() -> None:
    found = heat_map(*[(3.0,)] * 15)
    assert [row for row, _ in found.named] == [str(row) for row in range(12)]
    assert found.unnamed == 3
    assert heat_map((3.0,), (1.0,)).unnamed == 0


def test_numbers_that_follow_each_other_are_a_range() -> None:
    assert heat_map((3.0, 1.0, 3.0, 3.0, 3.0, 1.0, 3.0, 3.0)).named == [("0", "0, 2–4, 6, 7")]
    assert ranges(["q", "9", "10", "11", "x"]) == ["q", "9–11", "x"]


def test_a_cell_without_a_value_is_crossed_and_not_drawn() -> None:
    row = Row("0", [Cell(None, "–", crossed=True, anchor="p1"), Cell(1.0, "1")], "")
    found = HeatMap("", [row], numbered(2), SCALE, "")
    assert dict(found.paths) == {"s1": "M1 0.5h1"}
    assert found.named == [("0", "0")]
    assert found.spots == [("p1", 0, 0, 1)]


def test_what_a_map_leaves_out_is_said() -> None:
    row = Row("0", [Cell(1.0, "1")] * 600, "")
    whole = HeatMap("", [row] * 300, numbered(600), SCALE, "")
    (shown,) = within([whole] * 9)
    assert (len(shown.rows), len(shown.columns), len(shown.rows[0].cells)) == (128, 512, 512)
    cut = "the first 128 of 300 rows; the first 512 of 600 columns"
    assert shown.note == f"{cut}; 8 more maps like this are not drawn"
    assert within([heat_map((1.0,))])[0].note == ""


def test_a_long_name_keeps_its_begin_and_end() -> None:
    assert clipped("x" * 30, 30) == "x" * 30
    assert clipped("a" * 60 + "b" * 40, 30) == "a" * 20 + " … 70 characters … " + "b" * 10


def test_of_many_columns_some_are_labelled() -> None:
    assert [column.name for column in numbered(128) if column.labelled] == [str(16 * n) for n in range(8)]
    assert len(heat_map(*[(1.0,)] * 48).row_ticks) == 12


def test_long_lists_are_cut() -> None:
    assert shortened(range(3)) == "0, 1, 2"
    assert shortened(range(5), most=2) == "0, 1 and 3 more"


def test_a_logarithmic_axis_is_even_in_decades_and_holds_zero_apart() -> None:
    axis = LogAxis([0.01, 1.0])
    assert [axis.place(value) for value in (0.01, 0.1, 1.0, 5.0)] == [0.0, 50.0, 100.0, 100.0]
    assert axis.ticks == [(0.0, "0.01"), (50.0, "0.1"), (100.0, "1")]
    with_zero = LogAxis([0.0, 0.01, 1.0])
    assert with_zero.place(0.0) < with_zero.place(1e-9) == with_zero.place(0.01)
    assert with_zero.ticks[0][1] == "0"


def test_an_axis_of_nothing_is_an_axis() -> None:
    assert all(
        0 <= place <= 100
        for values in ([], [0.0], [math.nan], [math.inf], [5e-324])
        for place, _ in LogAxis(values).ticks
    )


def test_the_palette_brightens_steadily() -> None:
    colours = palette()
    light = [0.2126 * colours[i] + 0.7152 * colours[i + 1] + 0.0722 * colours[i + 2] for i in range(0, 768, 3)]
    assert light == sorted(light)
    assert light[-1] - light[0] > 200


@pytest.mark.parametrize("counts", [(0, 0), (1, 1), (3, 484), (1, 10**9), (7,), ()])
def test_every_count_has_a_class_whose_label_holds_it(counts: tuple[int, ...]) -> None:
    record = CalibrationRecord("r", "f", {}, {"text": {"a.layers.0.mlp.experts": counts}}, 1, {})
    scale = coverage(record).maps[0].scale
    assert len(scale.labels) == len(scale.shades) == len(scale.bounds) + 1 <= 7
    for count in counts:
        label = dict(zip(scale.shades, scale.labels, strict=True))[scale.shade(count)]
        low, _, high = label.replace(",", "").removeprefix("≥ ").partition("–")
        assert label == "no tokens" if count == 0 else int(low) <= count <= int(high or count)
