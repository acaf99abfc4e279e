"""Cuts and twins: what their bytes are, and what is refused."""

import json
import shutil
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
from packed_tiny import pack, with_config

from pytest_q3omni.engines.packed import packed_modules
from pytest_q3omni.errors import Inconsistent, InvalidRequest, Unreadable, Unwritable
from pytest_q3omni.layouts import layout_names
from pytest_q3omni.nvfp4 import Packed, unpack_tensor
from pytest_q3omni.omni.checkpoint import INDEX, open_checkpoint
from pytest_q3omni.omni.tiny import checkpoint_path
from pytest_q3omni.serve import twins
from pytest_q3omni.serve.twins import write_cut, write_twin
from pytest_q3omni.verify.judge import judge

pytestmark = pytest.mark.tiny


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    home = tmp_path_factory.mktemp("packed")
    return {name: pack(home / name, name) for name in layout_names()}


def same(one, other, name, theirs=None):
    return np.array_equal(one.read(name), other.read(theirs or name))


@pytest.mark.parametrize("name", layout_names())
def test_a_cut_is_the_same_byte_for_byte(packed, name, tmp_path):
    write_cut(packed[name], tmp_path / "cut", layers=1)
    cut = open_checkpoint(tmp_path / "cut")
    assert cut.entries
    assert all(same(cut, packed[name], tensor) for tensor in cut.entries)
    assert not any(tensor.startswith(("talker", "code2wav", "thinker.model.layers.1.")) for tensor in cut.entries)
    assert {file.name for file in cut.files} <= {file.name for file in packed[name].files}
    assert (cut.path / INDEX).exists()
    for companion in ("tokenizer.json", "chat_template.json", "preprocessor_config.json", "generation_config.json"):
        assert (cut.path / companion).read_bytes() == (checkpoint_path() / companion).read_bytes()


@pytest.mark.parametrize("name", layout_names())
def test_the_judge_takes_a_cut_for_sound(packed, name, tmp_path):
    for weight_only in (False, True):
        write_cut(packed[name], tmp_path / str(weight_only), layers=1, weight_only=weight_only)
        found = judge(tmp_path / str(weight_only))
        errors = [str(finding) for finding in found.findings if finding.severity == "error"]
        assert not errors


@pytest.mark.parametrize("name", layout_names())
def test_a_twin_is_what_the_packed_weights_mean(packed, name, tmp_path):
    write_twin(packed[name], tmp_path / "twin")
    twin, source = open_checkpoint(tmp_path / "twin"), packed[name]
    assert "quantization_config" not in twin.config
    assert {entry.info.dtype for entry in twin.entries.values()} == {"BF16"}
    modules = [module for module in packed_modules(source) if module.startswith("thinker.")]
    for module in modules:
        codes, scale, total = (
            ("weight", "weight_scale", "weight_scale_2")
            if name == "modelopt"
            else ("weight_packed", "weight_scale", "weight_global_scale")
        )
        factor = source.array(f"{module}.{total}").reshape(-1)[0]
        factor = factor if name == "modelopt" else np.float32(1) / factor
        meant = unpack_tensor(Packed(source.array(f"{module}.{codes}"), source.array(f"{module}.{scale}"), factor))
        found = twin.array(f"{module}.weight")
        assert np.array_equal(found, meant.astype(ml_dtypes.bfloat16))
        nonzero = meant != 0
        assert np.abs(found.astype(np.float32) / np.where(nonzero, meant, 1) - 1)[nonzero].max() <= 2.0**-8
    kept = [tensor for tensor in twin.entries if tensor.removesuffix(".weight") not in modules]
    assert all(same(twin, source, tensor) for tensor in kept)


def test_pieces_do_not_show(packed, tmp_path, monkeypatch):
    """Not even where they are smaller than a row of the weight."""
    write_twin(packed["modelopt"], tmp_path / "whole")
    write_cut(packed["modelopt"], tmp_path / "whole cut", control="attention-scale-doubled")
    monkeypatch.setattr(twins, "_PIECE", 64)
    write_twin(packed["modelopt"], tmp_path / "pieces")
    write_cut(packed["modelopt"], tmp_path / "cut in pieces", control="attention-scale-doubled")
    for one, other in (("whole", "pieces"), ("whole cut", "cut in pieces")):
        for file in open_checkpoint(tmp_path / one).files:
            assert file.read_bytes() == (tmp_path / other / file.name).read_bytes()


def test_weights_alone_have_no_input_scales(packed, tmp_path):
    write_cut(packed["modelopt"], tmp_path / "cut", weight_only=True)
    cut = open_checkpoint(tmp_path / "cut")
    assert not any(name.endswith("input_scale") for name in cut.entries)
    assert packed_modules(cut) == {m for m in packed_modules(packed["modelopt"]) if m.startswith("thinker.")}


def test_modelopts_second_declaration_is_cut_too(packed, tmp_path):
    shutil.copytree(packed["modelopt"].path, tmp_path / "source")
    block = packed["modelopt"].config["quantization_config"]
    (tmp_path / "source" / "hf_quant_config.json").write_text(json.dumps({"quantization": block}))
    source = open_checkpoint(tmp_path / "source")
    write_cut(source, tmp_path / "cut", layers=1)
    second = json.loads((tmp_path / "cut" / "hf_quant_config.json").read_text())
    assert second["quantization"] == open_checkpoint(tmp_path / "cut").config["quantization_config"]
    write_twin(source, tmp_path / "twin")
    assert not (tmp_path / "twin" / "hf_quant_config.json").exists()


def test_nothing_packed_is_refused(tmp_path):
    with pytest.raises(InvalidRequest, match="nothing is packed"):
        write_cut(open_checkpoint(checkpoint_path()), tmp_path / "cut")
    assert not list(tmp_path.iterdir())


def test_a_place_that_holds_something_stays(packed, tmp_path):
    (tmp_path / "mine").write_text("precious")
    for write in (write_cut, write_twin):
        with pytest.raises(InvalidRequest, match="something else"):
            write(packed["modelopt"], tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_a_full_disk_leaves_nothing(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(Unwritable, match="MB for the weights"):
        write_twin(packed["modelopt"], tmp_path / "twin")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("tensor", "value"), [("weight_scale_2", np.nan), ("weight_scale_2", 0.0), ("weight_scale_2", -1.0)]
)
def test_a_scale_that_is_no_number_is_named(packed, tensor, value, tmp_path):
    shutil.copytree(packed["modelopt"].path, tmp_path / "source")
    source = open_checkpoint(tmp_path / "source")
    name = f"thinker.model.layers.1.self_attn.q_proj.{tensor}"
    with source.entries[name].file.open("r+b") as stream:
        stream.seek(source.entries[name].begin)
        stream.write(np.float32(value).tobytes())
    with pytest.raises(Inconsistent, match=r"layers\.1\.self_attn\.q_proj"):
        write_twin(source, tmp_path / "twin")
    assert [file.name for file in tmp_path.iterdir()] == ["source"]


def test_a_companion_that_leaves_the_checkpoint_is_refused(packed, tmp_path):
    shutil.copytree(packed["modelopt"].path, tmp_path / "source")
    (tmp_path / "secret.json").write_text("{}")
    (tmp_path / "source" / "vocab.json").unlink()
    (tmp_path / "source" / "vocab.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(Inconsistent, match="leaves the checkpoint"):
        write_cut(open_checkpoint(tmp_path / "source"), tmp_path / "cut")
    assert not (tmp_path / "cut").exists()


def test_a_companion_without_end_is_refused(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(twins, "MAX_CONFIG_BYTES", 1000)
    with pytest.raises(Unreadable, match="more than 1,000 bytes"):
        write_cut(packed["modelopt"], tmp_path / "cut")


def test_a_quantized_cache_has_no_twin(packed, tmp_path):
    def change(config):
        config["quantization_config"]["kv_cache_quant_algo"] = "FP8"

    with pytest.raises(Inconsistent, match="KV cache"):
        write_twin(with_config(packed["modelopt"], change), tmp_path / "twin")
