"""Plans: the full model's figures, what is refused, and that the plan is what gets written."""

import json
import subprocess
import sys
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_q3omni.errors import FormatError, Inconsistent, InvalidRequest, UnknownName
from pytest_q3omni.omni.safetensors_file import layout, nbytes
from pytest_q3omni.omni.tiny import checkpoint_path
from pytest_q3omni.plan.build import build_plan
from pytest_q3omni.plan.recipes import recipe, recipe_names
from pytest_q3omni.plan.sizes import fill_shards, parse_size
from pytest_q3omni.records import TensorInfo

pytestmark = pytest.mark.tiny

FULL_SIZE = Path(str(files("pytest_q3omni.omni") / "qwen3_omni_30b_config.json"))


def test_full_size_default() -> None:
    """27,542,850,146 bytes in 83,882 tensors: computed independently from the meta model."""
    plan = build_plan(FULL_SIZE, "nvfp4-default")
    assert plan.parameters == 35_259_818_545
    assert plan.tensor_bytes == 27_542_850_146
    assert sum(len(shard.tensors) for shard in plan.shards) == 83_882
    assert round(plan.compression_ratio, 2) == 2.56
    assert plan.numerics == "w4a4"


def test_full_size_weight_only_and_the_share_that_modelopt_counts() -> None:
    plan = build_plan(FULL_SIZE, "nvfp4-mlp-weight-only")
    assert plan.tensor_bytes == 28_845_106_274
    assert f"{plan.quantized_fraction:.2%}" == "82.22%"
    remark = recipe(plan.recipe).remark(plan)
    assert "92.42%" in remark
    assert "82.22%" in remark


def test_full_size_control_changes_nothing() -> None:
    plan = build_plan(FULL_SIZE, "bf16")
    assert plan.tensor_bytes == plan.source_bytes == 2 * plan.parameters
    assert not plan.packed


@pytest.mark.parametrize("name", recipe_names())
def test_stages_add_up_and_shards_hold_every_target_once(name: str) -> None:
    plan = build_plan(FULL_SIZE, name)
    assert sum(stage.tensor_bytes for stage in plan.stages.values()) == plan.tensor_bytes
    targets = [target for tensor in plan.tensors for target in tensor.targets]
    in_shards = [target for shard in plan.shards for target in shard.tensors]
    assert sorted(targets, key=str) == sorted(in_shards, key=str)
    assert all(shard.data_bytes <= plan.max_shard_bytes for shard in plan.shards)
    names = [max(tensor.name for tensor in shard.tensors) for shard in plan.shards]
    assert names == sorted(names), "shards follow the sorted names"


def test_planning_the_full_model_needs_neither_torch_nor_numpy() -> None:
    code = (
        "import sys; from pathlib import Path; from pytest_q3omni.plan.build import build_plan;"
        f"build_plan(Path({str(FULL_SIZE)!r}), 'nvfp4-default');"
        "print([name for name in ('torch', 'transformers', 'numpy', 'numba') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == "[]"


def test_numerics_of_groups_and_inputs() -> None:
    plan = build_plan(checkpoint_path(), "nvfp4-default")
    tensors = {tensor.module: tensor for tensor in plan.packed}
    attention = "thinker.model.layers.0.self_attn"
    assert {tensors[f"{attention}.{name}_proj"].group for name in "qkv"} == {f"{attention}.qkv_proj"}
    assert tensors[f"{attention}.o_proj"].group == f"{attention}.o_proj"
    expert = "thinker.model.layers.1.mlp.experts.3"
    assert tensors[f"{expert}.gate_proj"].group == tensors[f"{expert}.up_proj"].group == f"{expert}.gate_up_proj"
    assert tensors[f"{expert}.up_proj"].input_site == "thinker.model.layers.1.mlp.experts.gate_up_proj"
    assert tensors[f"{expert}.down_proj"].input_site == "thinker.model.layers.1.mlp.experts.down_proj"
    assert not any(tensor.input_site for tensor in build_plan(checkpoint_path(), "nvfp4-mlp-weight-only").packed)


def test_every_packed_tensor_is_in_the_thinker() -> None:
    for name in recipe_names():
        assert {tensor.stage for tensor in build_plan(FULL_SIZE, name).packed} <= {"thinker"}


def test_a_typo_gets_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match=r"no recipe is called 'nvfp4-defualt'.*did you mean 'nvfp4-default'"):
        build_plan(checkpoint_path(), "nvfp4-defualt")
    with pytest.raises(UnknownName, match="no layout is called 'gguf'"):
        build_plan(checkpoint_path(), "bf16", layout_name="gguf")


def test_a_quantized_source_is_refused(tmp_path: Path) -> None:
    config = json.loads((checkpoint_path() / "config.json").read_text())
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**config, "quantization_config": {"quant_method": "modelopt"}}))
    with pytest.raises(InvalidRequest, match="already quantized"):
        build_plan(file, "nvfp4-default")


def test_a_width_that_blocks_do_not_divide_is_named(tmp_path: Path) -> None:
    config = json.loads((checkpoint_path() / "config.json").read_text())
    config["thinker_config"]["text_config"]["moe_intermediate_size"] = 72
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    with pytest.raises(FormatError, match=r"layers\.0\.mlp\.experts\.0\.down_proj: in_features = 72"):
        build_plan(file, "nvfp4-default")


def test_a_float32_source_is_refused_by_name(tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.mkdir()
    (source / "config.json").write_bytes((checkpoint_path() / "config.json").read_bytes())
    made = layout([TensorInfo("thinker.model.layers.0.self_attn.q_proj.weight", "F32", (128, 128))])
    (source / "model.safetensors").write_bytes(made.header + bytes(made.data_bytes))
    with pytest.raises(InvalidRequest, match=r"q_proj\.weight: dtype F32; expected BF16"):
        build_plan(source, "nvfp4-default")


def test_a_tensor_of_no_stage_is_named(tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.mkdir()
    (source / "config.json").write_bytes((checkpoint_path() / "config.json").read_bytes())
    made = layout([TensorInfo("model.layers.0.self_attn.q_proj.weight", "BF16", (128, 128))])
    (source / "model.safetensors").write_bytes(made.header + bytes(made.data_bytes))
    with pytest.raises(Inconsistent, match=r"model\.layers\.0\.self_attn\.q_proj\.weight: belongs to no stage"):
        build_plan(source, "nvfp4-default")


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=30),
    st.integers(1, 60),
)
def test_shards_are_filled_in_order_and_a_large_tensor_is_alone(sizes: list[int], limit: int) -> None:
    tensors = [TensorInfo(f"{number:03d}", "U8", (size,)) for number, size in enumerate(sizes)]
    shards = fill_shards(reversed(tensors), limit)
    assert [tensor for shard in shards for tensor in sorted(shard.tensors, key=lambda t: t.name)] == tensors
    for shard in shards:
        assert shard.data_bytes <= limit or len([t for t in shard.tensors if nbytes(t)]) == 1
    for left, right in pairwise(shards):
        first = min(right.tensors, key=lambda tensor: tensor.name)
        assert left.data_bytes + nbytes(first) > limit, "a shard ends only where the next tensor does not fit"


@pytest.mark.parametrize(
    ("text", "size"), [("5GB", 5 * 10**9), ("2GiB", 2 << 30), ("512 MiB", 512 << 20), ("1.5kb", 1500), ("100", 100)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-5GB", "0", "nan", "inf", "5XB", "5GBB", "five GB", "1e400"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a size"):
        parse_size(text)
