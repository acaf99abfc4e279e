"""Input scales beside the inputs: which of them fit, which do not, and what a finding says of one that does not."""

import pytest

from pytest_q3omni.parity.inputs import LEAST_ROOM, MOST_ROOM, input_ranges, misfits
from pytest_q3omni.records import InputRange

pytestmark = pytest.mark.tiny

LAYER = "thinker.model.layers.0"
ATTENTION, EXPERTS = f"{LAYER}.self_attn", f"{LAYER}.mlp.experts"
UNIT = 1 / 2688  # the input scale of inputs up to 1


def ranges(scales, seen):
    return {each.module: (each.holds, each.seen) for each in input_ranges(scales, seen)}


def test_a_scale_holds_2688_times_itself():
    scales = {f"{ATTENTION}.o_proj": 3 * UNIT}
    assert ranges(scales, {f"{ATTENTION}.o_proj": 2.5}) == {f"{ATTENTION}.o_proj": (pytest.approx(3.0), 2.5)}


def test_modules_that_share_an_input_are_one_range_named_by_the_widest():
    scales = {f"{ATTENTION}.{part}_proj": size * UNIT for part, size in (("q", 3), ("k", 5), ("v", 4))}
    assert ranges(scales, {f"{ATTENTION}.qkv_proj": 5.0}) == {f"{ATTENTION}.k_proj": (pytest.approx(5.0), 5.0)}


def test_experts_with_scales_of_their_own_are_judged_by_the_one_that_saw_most():
    """An expert that never met the layer's largest input has a smaller scale, and is sound."""
    scales = {f"{EXPERTS}.{number}.up_proj": size * UNIT for number, size in enumerate((0.01, 6.0, 0.5))}
    scales[f"{EXPERTS}.0.down_proj"] = 2 * UNIT
    found = input_ranges(scales, {f"{EXPERTS}.gate_up_proj": 6.0, f"{EXPERTS}.down_proj": 1.9})
    assert [each.module for each in found] == [f"{EXPERTS}.0.down_proj", f"{EXPERTS}.1.up_proj"]
    assert list(misfits(found)) == []


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
        (200.0, "holds inputs up to 200, 100 times more than the largest that these conversations bring, 2"),
        (0.02, "holds inputs up to 0.02, 100 times less than the largest that these conversations bring, 2"),
        (2.0 * MOST_ROOM * 1.01, "32 times more"),
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
    assert finding.expected == "0.125 to 32 times the largest"
    assert "calibrate again" in finding.fix
