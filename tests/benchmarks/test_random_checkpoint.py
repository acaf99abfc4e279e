"""The random checkpoint: what its config describes, and what its numbers are. None of full width is written here."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from pytest_q3omni.errors import InvalidRequest
from pytest_q3omni.omni.checkpoint import open_checkpoint
from pytest_q3omni.omni.config import read_json
from pytest_q3omni.omni.stages import expected_tensors
from pytest_q3omni.omni.tiny import checkpoint_path
from pytest_q3omni.plan.build import build_plan
from pytest_q3omni.records import TensorInfo

pytestmark = pytest.mark.tiny

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "random_checkpoint.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("random_checkpoint", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_config_is_the_full_models_with_the_tiny_ones_tokens(script):
    full, tiny = read_json(script.FULL_SIZE), read_json(checkpoint_path() / "config.json")
    config = script.config_of(3, all_stages=False)
    text, whole = (each["thinker_config"]["text_config"] for each in (config, full))
    assert {key for key in whole if text[key] != whole[key]} <= {"num_hidden_layers", "eos_token_id"}
    assert text["num_hidden_layers"] == 3
    for key in ("image_token_id", "audio_token_id", "video_token_id"):
        assert config["thinker_config"][key] == tiny["thinker_config"][key] < text["vocab_size"]
    assert config["talker_config"]["codec_eos_token_id"] == full["talker_config"]["codec_eos_token_id"]
    for tower, fields in (
        ("vision_config", ("patch_size", "spatial_merge_size", "temporal_patch_size")),
        ("audio_config", ("num_mel_bins", "n_window")),
    ):  # what the tiny model's processor prepares is what the full model's towers take
        assert {field: config["thinker_config"][tower][field] for field in fields} == {
            field: tiny["thinker_config"][tower][field] for field in fields
        }


@pytest.mark.parametrize("all_stages", [False, True])
def test_it_can_be_planned(script, all_stages, tmp_path):
    import json

    config = script.config_of(2, all_stages=all_stages)
    (tmp_path / "config.json").write_text(json.dumps(config))
    plan = build_plan(tmp_path / "config.json", "nvfp4-default")
    assert plan.packed
    assert ("talker" in plan.stages) is all_stages


@pytest.mark.parametrize("layers", [0, 49])
def test_a_depth_that_is_none(script, layers):
    with pytest.raises(InvalidRequest, match="1 to 48"):
        script.config_of(layers, all_stages=False)


def test_numbers_are_normal_and_of_each_tensor_its_own(script):
    table = script.normal_table()
    drawn = [
        np.concatenate(list(script.values(TensorInfo("m.weight", "BF16", (64, 2048)), (0, own), table)))
        for own in (0, 0, 1)
    ]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    values = drawn[0].astype(np.float64)
    assert values.std() == pytest.approx(0.02, rel=0.02)
    assert values.mean() == pytest.approx(0, abs=0.0005)
    assert np.abs(values).max() > 4 * 0.02, "its tails are there"
    (ones,), (zeros,) = (
        list(script.values(TensorInfo(name, "BF16", (5,)), (0, 0), table)) for name in ("norm.weight", "fc.bias")
    )
    assert (ones == 1).all()
    assert (zeros == 0).all()


def test_what_it_writes_opens_and_is_the_same_again(script, tmp_path, monkeypatch):
    """With the tiny model's config in place of the full one: the same way, 2 MB."""
    tiny = read_json(checkpoint_path() / "config.json")
    monkeypatch.setattr(script, "config_of", lambda layers, all_stages: tiny)
    monkeypatch.setattr(script, "SHARD_BYTES", 10**6)
    for name in ("one", "two"):
        assert script.write_random(tmp_path / name, 2) == sum(2 * np.prod(t.shape) for t in expected_tensors(tiny))
    one, two = (open_checkpoint(tmp_path / name) for name in ("one", "two"))
    assert len(one.files) > 1
    assert {t.name: t.shape for t in one.tensors} == {t.name: t.shape for t in expected_tensors(tiny)}
    assert one.weights_sample() == two.weights_sample()
    assert (one.path / "tokenizer.json").read_bytes() == (checkpoint_path() / "tokenizer.json").read_bytes()
    experts = [one.read(f"thinker.model.layers.0.mlp.experts.{n}.up_proj.weight").tobytes() for n in range(8)]
    assert len(set(experts)) == 8
    with pytest.raises(InvalidRequest):
        script.write_random(tmp_path / "one", 2)
