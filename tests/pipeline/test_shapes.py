"""Shapes without weights: the config is the one that `quantize` writes, of the tiny model and of the full-size one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pytest_q3omni import api
from pytest_q3omni.errors import Q3OmniError, UnknownName
from pytest_q3omni.omni.checkpoint import open_checkpoint
from pytest_q3omni.omni.tiny import checkpoint_path, record_path
from pytest_q3omni.pipeline.shapes import FULL_SIZE, write_shapes
from pytest_q3omni.plan.recipes import recipe, recipe_names

pytestmark = pytest.mark.tiny

TINY = checkpoint_path()
RECIPES = pytest.mark.parametrize("name", recipe_names())


def config_in(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


@RECIPES
def test_it_is_the_config_that_quantize_writes(tmp_path: Path, name: str) -> None:
    write_shapes(TINY, tmp_path / "shapes", name)
    record = record_path() if recipe(name).numerics == "w4a4" else None
    api.quantize(TINY, tmp_path / "quantized", recipe=name, record=record)
    assert config_in(tmp_path / "shapes") == config_in(tmp_path / "quantized")
    assert [file.name for file in (tmp_path / "shapes").iterdir()] == ["config.json"], "no weights"


@RECIPES
def test_its_plan_tells_what_the_files_hold(tmp_path: Path, name: str) -> None:
    plan = write_shapes(TINY, tmp_path / "shapes", name)
    record = record_path() if recipe(name).numerics == "w4a4" else None
    api.quantize(TINY, tmp_path / "quantized", recipe=name, record=record)
    planned = {target.name: (target.dtype, target.shape) for tensor in plan.tensors for target in tensor.targets}
    held = open_checkpoint(tmp_path / "quantized").tensors
    assert planned == {tensor.name: (tensor.dtype, tensor.shape) for tensor in held}


@RECIPES
def test_of_the_full_size_a_config_is_enough(tmp_path: Path, name: str) -> None:
    plan = write_shapes(FULL_SIZE, tmp_path, name)
    config, source = config_in(tmp_path), json.loads(FULL_SIZE.read_text(encoding="utf-8"))
    assert plan.parameters == 35_259_818_545
    assert ("quantization_config" in config) == bool(plan.packed) == (name != "bf16")
    del config["thinker_config"], source["thinker_config"]
    config.pop("quantization_config", None)
    assert config == source, "the rest is as it was"


def test_a_directory_and_its_config_say_the_same(tmp_path: Path) -> None:
    write_shapes(TINY, tmp_path / "directory", "nvfp4-default")
    shutil.copy(TINY / "config.json", tmp_path / "mine.json")
    write_shapes(tmp_path / "mine.json", tmp_path / "file", "nvfp4-default")
    assert config_in(tmp_path / "directory") == config_in(tmp_path / "file")


def test_it_is_written_anew_and_nothing_else_is_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    write_shapes(TINY, tmp_path, "nvfp4-default")
    write_shapes(TINY, tmp_path, "bf16")
    assert "quantization_config" not in config_in(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "mine.txt"]


def test_what_cannot_be_planned_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="nvfp4-defalt"):
        write_shapes(TINY, tmp_path / "out", "nvfp4-defalt")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    for source in (tmp_path / "config.json", tmp_path / "absent"):
        with pytest.raises(Q3OmniError):
            write_shapes(source, tmp_path / "out", "nvfp4-default")
    assert not (tmp_path / "out").exists()
