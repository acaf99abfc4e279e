"""`assert_loads_in_vllm`, with a program in the place of vLLM's interpreter."""

import sys
from pathlib import Path

import pytest

from pytest_q3omni.assertions import assert_loads_in_vllm
from pytest_q3omni.errors import EngineError, InvalidRequest, MissingDependency, UnknownName

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))

from fake_interpreter import LOADED, FakeInterpreter

pytestmark = pytest.mark.tiny

METHODS = {
    f"thinker.model.layers.{layer}.{unit}": "w4a4"
    for layer in (0, 1)
    for unit in ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.experts")
}


def test_what_was_loaded_is_returned(quantized_checkpoint, tmp_path):
    fake = FakeInterpreter(tmp_path, loads={**LOADED, "methods": METHODS})
    measured = assert_loads_in_vllm(quantized_checkpoint, engine_python=fake.python)
    assert (measured.name, measured.value, measured.bound) == ("errors", 0, 0)
    assert "599 tensors write all of 121 parameters" in measured.details["why"]
    assert fake.seen[0]["request"]["depth"] == "headers"


def test_every_gap_is_listed(quantized_checkpoint, tmp_path):
    gap = {
        "parameter": "", "module": "thinker.model.layers.1.mlp.experts", "suffix": "w2_weight_scale",
        "written": 3584, "total": 4096, "rows": 8, "gaps": [[3, 4]], "why": "",
    }  # fmt: skip
    methods = {**METHODS, "thinker.model.layers.0.mlp.experts": "unquantized"}
    fake = FakeInterpreter(tmp_path, loads={**LOADED, "methods": methods, "unwritten": [gap]})
    with pytest.raises(AssertionError) as caught:
        assert_loads_in_vllm(quantized_checkpoint, engine_python=fake.python)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"assert_loads_in_vllm: {quantized_checkpoint}: depth headers: 2 errors")
    assert len(lines) == 3
    assert "thinker.model.layers.1.mlp.experts.3.down_proj.weight_scale: vLLM 0.32.0 writes 3,584 of 4,096" in lines[1]
    assert "thinker.model.layers.0.mlp.experts: vLLM 0.32.0 runs it unquantized" in lines[2]
    assert all("Fix: " in line for line in lines[1:])


def test_a_checkpoint_that_could_not_be_asked_about_fails(quantized_checkpoint, tmp_path):
    import shutil

    copied = tmp_path / "copy"
    shutil.copytree(quantized_checkpoint, copied)
    (copied / "model.safetensors").write_bytes(b"")
    fake = FakeInterpreter(tmp_path, loads=LOADED)
    with pytest.raises(AssertionError, match="not checked: part of the weights cannot be read"):
        assert_loads_in_vllm(copied, engine_python=fake.python)


def test_what_is_no_judgement_is_no_assertion(quantized_checkpoint, tmp_path, monkeypatch):
    monkeypatch.delenv("Q3OMNI_ENGINE_PYTHON", raising=False)
    with pytest.raises(UnknownName):
        assert_loads_in_vllm(quantized_checkpoint, depth="deep")
    with pytest.raises(MissingDependency):
        assert_loads_in_vllm(quantized_checkpoint, engine_python=FakeInterpreter(tmp_path, probe=3).python)
    dead = FakeInterpreter(tmp_path, code=1)
    with pytest.raises(EngineError):
        assert_loads_in_vllm(quantized_checkpoint, engine_python=dead.python)
    with pytest.raises(InvalidRequest, match="--source SRC"):
        assert_loads_in_vllm(quantized_checkpoint, depth="answers", engine_python=dead.python)
