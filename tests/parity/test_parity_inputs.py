"""Input scales beside the inputs: which of them fit, which do not, and what a finding says of one that does not."""

import pytest

from pytest_q3omni.parity.inputs import LEAST_ROOM, MOST_ROOM, input_ranges, misfits
from pytest_q3omni.records import InputRange

pytestmark = pytest.mark.tiny

LAYER = "thinker.model.layers.0"
ATTENTION, EXPERTS = f"{LAYER}.self_attn", f"{LAYER}.mlp.experts"
UNIT = 1 / 2688  # the input scale of inputs up to 1


Q, DOWN = f"{ATTENTION}.q_proj", f"{EXPERTS}.3.down_proj"


def ranges(scales, seen):
    return {each.module: (each.holds, each.seen) for each in input_ranges(scales, seen)}


def test_a_scale_holds_2688_times_itself():
    scales = {f"{ATTENTION}.o_proj": 3 * UNIT}
    assert ranges(scales, {f"{ATTENTION}.o_proj": 2.5}) == {f"{ATTENTION}.o_proj": (pytest.approx(3.0), 2.5)}


def test_modules_that_share_an_input_are_one_range_named_by_the_widest():
    scales = {f"{ATTENTION}.{part}_proj": size * UNIT for part, size in (("q", 3), ("k", 5), ("v", 4))}
    assert ranges(scales, {f"{ATTENTION}.qkv_proj": 5.0}) == {f"{ATTENTION}.k_proj": (pytest.approx(5.0), 5.0)}


def test_the_smallest_of_a_shared_input_is_named_where_it_is_another():
    scales = {f"{ATTENTION}.{part}_proj": size * UNIT for part, size in (("q", 3), ("k", 5), ("v", 4))}
    scales |= {f"{ATTENTION}.o_proj": UNIT}
    alone, shared = input_ranges(scales, {f"{ATTENTION}.qkv_proj": 5.0, f"{ATTENTION}.o_proj": 1.0})
    assert (shared.lowest, shared.holds_least) == (Q, pytest.approx(3.0))
    assert (alone.lowest, alone.holds_least) == ("", 0.0)
    (same,) = input_ranges(dict.fromkeys((Q, f"{ATTENTION}.k_proj"), UNIT), {f"{ATTENTION}.qkv_proj": 1.0})
    assert (same.lowest, same.holds_least) == ("", 0.0)


def test_a_dense_module_beside_sound_ones_that_share_its_input_is_an_error():
    scales = {f"{ATTENTION}.{part}_proj": 5 * UNIT / (100 if part == "q" else 1) for part in "qkv"}
    (finding,) = misfits(input_ranges(scales, {f"{ATTENTION}.qkv_proj": 5.0}))
    assert (finding.severity, finding.where) == ("error", f"{Q}.input_scale")
    assert finding.found == (
        "holds inputs up to 0.05, 100 times less than the largest that these conversations bring it, 5"
    )


def experts(*sizes, seen=6.0):
    scales = {f"{EXPERTS}.{number}.up_proj": size * UNIT for number, size in enumerate(sizes)}
    return misfits(input_ranges(scales, {f"{EXPERTS}.gate_up_proj": seen}))


def test_an_expert_with_a_small_scale_beside_a_larger_one_is_a_warning():
    """It may never have met the layer's largest input: then its scale is sound."""
    (finding,) = experts(0.01, 6.0, 0.5)
    assert (finding.severity, finding.where) == ("warning", f"{EXPERTS}.0.up_proj.input_scale")
    assert finding.found == (
        "holds inputs up to 0.01, 600 times less than the largest that these conversations bring its layer, 6"
    )
    assert list(experts(1.0, 6.0)) == []
    (barely,) = experts(0.01, 6.0 * LEAST_ROOM * 1.001)
    assert barely.severity == "warning"


def test_an_expert_with_a_small_scale_is_an_error_where_none_holds_more():
    for sizes in ((0.01, 0.01), (0.01, 6.0 * LEAST_ROOM * 0.99)):
        (finding,) = experts(*sizes)
        assert (finding.severity, finding.where[:-12]) in [
            ("error", f"{EXPERTS}.0.up_proj"),
            ("error", f"{EXPERTS}.1.up_proj"),
        ]


def test_a_shared_input_may_have_both_a_scale_too_large_and_one_too_small():
    scales = {Q: 0.01 * UNIT, f"{ATTENTION}.k_proj": 500 * UNIT}
    found = list(misfits(input_ranges(scales, {f"{ATTENTION}.qkv_proj": 1.0})))
    assert [each.where.split(".")[-2] for each in found] == ["k_proj", "q_proj"]
    assert {each.severity for each in found} == {"error"}


@pytest.mark.parametrize("module", [Q, DOWN])
def test_a_scale_too_large_is_a_warning_where_a_modality_was_not_asked(module):
    """Its inputs may be larger. They cannot be smaller than what was seen already."""
    large, small = InputRange(module, 200.0, 2.0), InputRange(module, 0.02, 2.0)
    severities = {asked: [each.severity for each in misfits((large, small), complete=asked)] for asked in (True, False)}
    assert severities == {True: ["error", "error"], False: ["warning", "error"]}


def test_inputs_that_nobody_saw_say_nothing_of_their_scale():
    scales = {f"{ATTENTION}.o_proj": UNIT, f"{ATTENTION}.q_proj": UNIT}
    assert list(ranges(scales, {f"{ATTENTION}.o_proj": 1.0})) == [f"{ATTENTION}.o_proj"]
    assert input_ranges(scales, {}) == ()
    assert input_ranges({}, {f"{ATTENTION}.o_proj": 1.0}) == ()


@pytest.mark.parametrize("ratio", [LEAST_ROOM, 0.5, 1.0, 3.0, MOST_ROOM])
def test_a_scale_near_what_is_seen_fits(ratio):
    assert list(misfits((InputRange("a", 2.0 * ratio, 2.0),))) == []


def test_an_input_that_is_always_zero_needs_no_scale():
    assert list(misfits((InputRange("a", 2.0, 0.0),))) == []


@pytest.mark.parametrize(
    ("holds", "found"),
    [
        (200.0, "holds inputs up to 200, 100 times more than the largest that these conversations bring it, 2"),
        (0.02, "holds inputs up to 0.02, 100 times less than the largest that these conversations bring it, 2"),
        (2.0 * MOST_ROOM * 1.01, "65 times more"),
        (2.0 * LEAST_ROOM * 0.99, "8 times less"),
        (2.0 * 2688, "2,688 times more"),
    ],
)
def test_a_scale_in_another_unit_is_an_error_with_module_number_bound_and_remedy(holds, found):
    sound = InputRange("b", 2.0, 2.0)
    (finding,) = misfits((sound, InputRange(f"{ATTENTION}.o_proj", holds, 2.0), sound))
    assert (finding.severity, finding.check) == ("error", "input-ranges")
    assert finding.where == f"{ATTENTION}.o_proj.input_scale"
    assert found in finding.found
    assert finding.expected == "0.125 to 64 times the largest"
    assert "calibrate again" in finding.fix
