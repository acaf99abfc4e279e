"""A twin in the cache is found again only for the same source, recipe, record, conversations and code."""

import os
import shutil

import pytest

from pytest_q3omni.omni.tiny import record_path
from pytest_q3omni.plugin import twins
from pytest_q3omni.plugin.twins import cache_directory, quantized_twin

pytestmark = pytest.mark.tiny

RECIPE = "nvfp4-mlp-weight-only"


@pytest.fixture
def source(original_checkpoint, tmp_path):
    shutil.copytree(original_checkpoint, tmp_path / "mine")
    return tmp_path / "mine"


def key(source, recipe=RECIPE, record=None, conversations=None):
    return twins._key(source, recipe, record, conversations)


def test_the_key_says_what_a_twin_is_made_of(source, tmp_path):
    lines = tmp_path / "mine.jsonl"
    lines.write_text("{}")
    keys = [key(source), key(source, "bf16"), key(source, record=record_path()), key(source, conversations=lines)]
    lines.write_text("{ }")
    keys.append(key(source, conversations=lines))
    assert len(set(keys)) == len(keys)
    assert key(source) == keys[0]


def test_another_weight_is_another_source(source):
    before, file = key(source), source / "model.safetensors"
    state = file.stat()
    with file.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\x01")
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert key(source) != before


def test_large_weights_are_told_apart_by_size_and_time(source, monkeypatch):
    monkeypatch.setattr(twins, "_SMALL", 0)
    before, file = key(source), source / "model.safetensors"
    assert key(source) == before
    os.utime(file, ns=(1, 1))
    assert key(source) != before


def test_the_code_that_packs_is_part_of_the_key(source, monkeypatch, tmp_path):
    names = {"/".join(file.parts[-2:]) for file in twins._code()}
    assert {"nvfp4/codec.py", "pack/stream.py", "derive/weights.py", "layouts/modelopt.py"} <= names
    assert not {"plugin/twins.py", "pytest_q3omni/cli.py"} & names
    before = key(source)
    (tmp_path / "more.py").write_text("changed")
    monkeypatch.setattr(twins, "_code", lambda: [tmp_path / "more.py"])
    assert key(source) != before


def test_a_twin_is_a_checkpoint_made_once(source, tmp_path):
    said = []
    made = quantized_twin(source, RECIPE, tmp_path / "cache", say=said.append)
    again = quantized_twin(source, RECIPE, tmp_path / "cache", say=said.append)
    assert made == again
    assert made.parent == tmp_path / "cache" / "checkpoints"
    assert (made / "q3omni" / "plan.json").is_file()
    assert said == [f"q3omni: quantizing {source} with {RECIPE} into {made} (once)"]


def test_without_an_option_the_cache_is_the_users(tmp_path):
    assert cache_directory(tmp_path) == tmp_path
    assert cache_directory(None).name == "pytest-q3omni"
