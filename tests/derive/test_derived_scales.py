"""The scales that a packed checkpoint holds, from the rules and nothing else."""

import numpy as np
import pytest

from pytest_q3omni.derive.weights import fused_groups, group_scale, input_scale
from pytest_q3omni.errors import FormatError, NonFiniteAmax
from pytest_q3omni.omni.tiny import checkpoint_path
from pytest_q3omni.plan.build import build_plan
from pytest_q3omni.records import CalibrationRecord

pytestmark = pytest.mark.tiny


def test_groups_are_what_engines_fuse() -> None:
    groups = fused_groups(build_plan(checkpoint_path(), "nvfp4-default"))
    sizes = {name: len(members) for name, members in groups.items()}
    assert sizes["thinker.model.layers.0.self_attn.qkv_proj"] == 3
    assert sizes["thinker.model.layers.0.self_attn.o_proj"] == 1
    assert sizes["thinker.model.layers.0.mlp.experts.7.gate_up_proj"] == 2
    assert sizes["thinker.model.layers.0.mlp.experts.7.down_proj"] == 1
    assert len(sizes) == 2 * (2 + 2 * 8)


@pytest.mark.parametrize("amax", [1.0, 0.1171875, 3e-39, 3.38e38])
def test_the_global_scale_is_amax_by_2688_in_float32(amax: float) -> None:
    scale = group_scale(amax, ())
    assert scale.dtype == np.float32
    assert scale == np.float32(np.float32(amax) / np.float32(2688))


def test_an_all_zero_group_is_named() -> None:
    members = fused_groups(build_plan(checkpoint_path(), "nvfp4-default"))["thinker.model.layers.0.self_attn.qkv_proj"]
    with pytest.raises(FormatError, match=r"q_proj, .*all weights are zero"):
        group_scale(0.0, members)


def test_the_input_scale_is_the_sites_amax_by_2688() -> None:
    """All experts of a layer share one; a missing one is named."""
    plan = build_plan(checkpoint_path(), "nvfp4-default")
    record = CalibrationRecord("r", "f", {"thinker.model.layers.0.mlp.experts.gate_up_proj": 7.40625}, {}, 1, {})
    experts = [tensor for tensor in plan.packed if "layers.0.mlp.experts" in tensor.module]
    scales = {input_scale(tensor, record) for tensor in experts if not tensor.module.endswith("down_proj")}
    assert scales == {np.float32(7.40625) / np.float32(2688)}
    down = next(tensor for tensor in experts if tensor.module.endswith("down_proj"))
    with pytest.raises(NonFiniteAmax, match=r"down_proj: no input amax"):
        input_scale(down, record)
