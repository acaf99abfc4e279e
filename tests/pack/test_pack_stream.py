"""What the packer writes: planned to the byte, equal to the codec tensor by tensor, within its memory limit."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from pytest_q3omni.errors import FormatError, InvalidRequest, NonFiniteAmax
from pytest_q3omni.nvfp4 import pack_tensor
from pytest_q3omni.omni.checkpoint import Checkpoint, open_checkpoint
from pytest_q3omni.omni.tiny import checkpoint_path
from pytest_q3omni.pack.stream import RUNTIME_BYTES, Packer, chunk_bytes
from pytest_q3omni.pack.write import write_checkpoint
from pytest_q3omni.plan.build import build_plan
from pytest_q3omni.records import CalibrationRecord, Plan

pytestmark = pytest.mark.tiny


def made_up_record(plan: Plan) -> CalibrationRecord:
    """An input amax for every site, each a different one."""
    sites = sorted({tensor.input_site for tensor in plan.packed if tensor.input_site})
    amax = {site: 1.0 + number / 8 for number, site in enumerate(sites)}
    return CalibrationRecord(plan.recipe, plan.fingerprint, amax, {}, 1, {"text": 1})


def packed(
    out: Path, recipe: str = "nvfp4-default", shard_bytes: int = 5 * 10**9, **options: int
) -> tuple[Plan, Checkpoint]:
    plan = build_plan(checkpoint_path(), recipe, max_shard_bytes=shard_bytes)
    record = made_up_record(plan) if plan.numerics == "w4a4" else None
    write_checkpoint(open_checkpoint(checkpoint_path()), plan, out, record=record, **options)
    return plan, open_checkpoint(out)


@pytest.mark.parametrize("recipe", ["nvfp4-default", "nvfp4-mlp-weight-only", "bf16"])
@pytest.mark.parametrize("shard_bytes", [5 * 10**9, 10**6, 3 * 10**4])
def test_files_are_what_the_plan_says_to_the_byte(tmp_path: Path, recipe: str, shard_bytes: int) -> None:
    plan, checkpoint = packed(tmp_path / "out", recipe, shard_bytes)
    sizes = {file.name: file.stat().st_size for file in (tmp_path / "out").glob("*.safetensors")}
    assert sizes == {shard.file: shard.file_bytes for shard in plan.shards}
    assert sum(sizes.values()) == plan.file_bytes
    targets = [target for tensor in plan.tensors for target in tensor.targets]
    assert sorted(checkpoint.tensors, key=str) == sorted(targets, key=str)
    if len(plan.shards) > 1:
        index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
        assert index["metadata"]["total_size"] == plan.tensor_bytes
        assert index["weight_map"] == {name: entry.file.name for name, entry in checkpoint.entries.items()}
    else:
        assert not (tmp_path / "out" / "model.safetensors.index.json").exists()


@pytest.mark.parametrize("shard_bytes", [5 * 10**9, 3 * 10**4])
def test_every_tensor_is_what_the_codec_makes_of_its_group(tmp_path: Path, shard_bytes: int) -> None:
    plan, checkpoint = packed(tmp_path / "out", shard_bytes=shard_bytes)
    source = open_checkpoint(checkpoint_path())
    record = made_up_record(plan)
    amax: dict[str, float] = {}
    for tensor in plan.packed:
        largest = float(np.abs(source.array(tensor.source.name).astype(np.float32)).max())
        amax[tensor.group] = max(largest, amax.get(tensor.group, 0.0))
    for tensor in plan.tensors:
        if tensor.action == "keep":
            assert checkpoint.read(tensor.source.name).tobytes() == source.read(tensor.source.name).tobytes()
            continue
        expected = pack_tensor(source.array(tensor.source.name), np.float32(amax[tensor.group]) / np.float32(2688))
        module = tensor.module
        assert checkpoint.array(f"{module}.weight").tobytes() == expected.codes.tobytes(), module
        assert checkpoint.array(f"{module}.weight_scale").tobytes() == expected.block_scale.tobytes(), module
        assert checkpoint.array(f"{module}.weight_scale_2") == expected.global_scale
        input_scale = np.float32(record.input_amax[tensor.input_site]) / np.float32(2688)
        assert checkpoint.array(f"{module}.input_scale") == input_scale


def test_small_chunks_give_the_same_bytes(tmp_path: Path) -> None:
    """Rows are independent: a chunk of one row packs as the whole does."""
    plan = build_plan(checkpoint_path(), "nvfp4-default")
    for name, chunk in (("whole", 1 << 26), ("rows", 300)):
        packer = Packer(open_checkpoint(checkpoint_path()), plan, made_up_record(plan), chunk, lambda count: None)
        packer.write_shard(plan.shards[0], tmp_path / name)
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "rows").read_bytes()


def test_a_memory_limit_that_cannot_hold_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    plan = build_plan(checkpoint_path(), "nvfp4-default")
    assert 0 < chunk_bytes(2 << 30, plan) < 1 << 30
    assert chunk_bytes(RUNTIME_BYTES + (4 << 20), plan) == 2 << 20
    with pytest.raises(InvalidRequest, match=r"a memory limit of 100 MiB; expected at least 258 MiB"):
        packed(tmp_path / "out", max_memory=100 << 20)
    assert not (tmp_path / "out").exists()


def damaged_source(home: Path, module: str, value: float) -> Path:
    """The tiny checkpoint with one weight replaced by a constant."""
    home.mkdir()
    for file in checkpoint_path().iterdir():
        (home / file.name).write_bytes(file.read_bytes())
    entry = open_checkpoint(home).entries[f"{module}.weight"]
    with (home / "model.safetensors").open("r+b") as stream:
        stream.seek(entry.begin)
        stream.write(np.full(entry.info.shape, value, ml_dtypes.bfloat16).tobytes())
    return home


EXPERT = "thinker.model.layers.1.mlp.experts.5"


def test_the_row_of_a_bad_weight_counts_from_the_top_of_its_chunk(tmp_path: Path) -> None:
    source = damaged_source(tmp_path / "source", f"{EXPERT}.up_proj", 0.5)
    entry = open_checkpoint(source).entries[f"{EXPERT}.up_proj.weight"]
    row = 2 * entry.info.shape[1]
    with (source / "model.safetensors").open("r+b") as stream:
        stream.seek(entry.begin + 5 * row)
        stream.write(np.array([np.nan], ml_dtypes.bfloat16).tobytes())
    plan = build_plan(source, "nvfp4-mlp-weight-only")
    packer = Packer(open_checkpoint(source), plan, None, 4 * row, lambda count: None)
    with pytest.raises(FormatError, match=r"up_proj, counted from row 4: nan at \(1, 0\)"):
        packer.write_shard(plan.shards[0], tmp_path / "shard")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_named(tmp_path: Path, value: float) -> None:
    source = damaged_source(tmp_path / "source", f"{EXPERT}.up_proj", value)
    with pytest.raises(FormatError, match=r"layers\.1\.mlp\.experts\.5\.up_proj: .* at \(0, 0\)"):
        write_checkpoint(open_checkpoint(source), build_plan(source, "nvfp4-mlp-weight-only"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_all_zero_weight_is_named_and_an_all_zero_half_of_a_group_is_packed(tmp_path: Path) -> None:
    """Gate and up share a scale: zeros beside a live partner are a value, zeros alone are a broken source."""
    dead = damaged_source(tmp_path / "dead", f"{EXPERT}.down_proj", 0.0)
    with pytest.raises(FormatError, match=r"experts\.5\.down_proj: all weights are zero"):
        write_checkpoint(open_checkpoint(dead), build_plan(dead, "nvfp4-mlp-weight-only"), tmp_path / "out")
    half = damaged_source(tmp_path / "half", f"{EXPERT}.gate_proj", 0.0)
    write_checkpoint(open_checkpoint(half), build_plan(half, "nvfp4-mlp-weight-only"), tmp_path / "out")
    made = open_checkpoint(tmp_path / "out")
    assert not made.array(f"{EXPERT}.gate_proj.weight").any()
    assert made.array(f"{EXPERT}.gate_proj.weight_scale_2") == made.array(f"{EXPERT}.up_proj.weight_scale_2") > 0


@pytest.mark.parametrize("amax", [None, 0.0, -1.0, float("nan"), float("inf")])
def test_an_input_without_a_usable_amax_is_named(tmp_path: Path, amax: float | None) -> None:
    plan = build_plan(checkpoint_path(), "nvfp4-default")
    record = made_up_record(plan)
    site = "thinker.model.layers.1.mlp.experts.down_proj"
    values = {name: value for name, value in record.input_amax.items() if name != site}
    broken = CalibrationRecord("r", "f", values if amax is None else {**values, site: amax}, {}, 1, {})
    with pytest.raises(NonFiniteAmax, match=r"layers\.1\.mlp\.experts\.0\.down_proj: .*calibrate with conversations"):
        write_checkpoint(open_checkpoint(checkpoint_path()), plan, tmp_path / "out", record=broken)
    assert not (tmp_path / "out").exists()
