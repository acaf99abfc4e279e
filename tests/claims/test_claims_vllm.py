"""vLLM.

Its own loader judges, in the environment that has it, as `q3omni verify --engine vllm` asks it.
"""

import ast
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from outcomes import Outcome

from pytest_q3omni.engines.engine_report import EngineReport
from pytest_q3omni.engines.vllm_loader import VLLMLoader
from pytest_q3omni.errors import MissingDependency
from pytest_q3omni.omni.checkpoint import open_checkpoint
from pytest_q3omni.omni.safetensors_file import layout
from pytest_q3omni.omni.tiny import checkpoint_path
from pytest_q3omni.records import TensorInfo

pytestmark = pytest.mark.tiny

QUANTIZATION = "model_executor/layers/quantization"
EXPERT = "thinker.model.layers.0.mlp.experts.0.gate_proj"
ONLINE = "nvfp4_per_token"
STATE = "vllm_fq_modelopt_state"
"""The pickle in which ModelOpt's `export_hf_vllm_fq_checkpoint` leaves what its quantizers saw."""
Judge = Callable[[Path], EngineReport]


@pytest.fixture(scope="module")
def loader() -> VLLMLoader:
    try:
        return VLLMLoader("headers")
    except MissingDependency as error:
        pytest.skip(str(error))


@pytest.fixture
def judge(loader: VLLMLoader, outcome: Outcome) -> Judge:
    """What vLLM's loader makes of a checkpoint; its release goes into the row."""

    def ask(directory: Path) -> EngineReport:
        report = loader.load(open_checkpoint(directory))
        outcome.used("vLLM", report.versions["vllm"])
        return report

    return ask


@pytest.fixture
def source(loader: VLLMLoader, outcome: Outcome) -> Path:
    """vLLM's package, to be read."""
    code = (
        "import importlib.util as u, importlib.metadata as m; print(u.find_spec('vllm').submodule_search_locations[0])"
    )
    done = subprocess.run([loader.python, "-c", code], capture_output=True, text=True, check=True)
    place = Path(done.stdout.strip())
    (release,) = {file.name.split("-")[1] for file in place.parent.glob("vllm*.dist-info")}
    outcome.used("vLLM", release.removesuffix(".dist").partition("+")[0])
    return place


def literals(file: Path, *names: str) -> list[str]:
    """All texts in what a module assigns to these names; a release need not have all of them."""
    found: list[str] = []
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(getattr(target, "id", "") in names for target in targets):
            found += [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return found


def tiny(out: Path, **fields: Any) -> Path:
    """A copy of the BF16 tiny model, with other fields in its config."""
    shutil.copytree(checkpoint_path(), out)
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    (out / "config.json").write_text(json.dumps({**config, **fields}), encoding="utf-8")
    return out


def schemes(report: EngineReport) -> set[str]:
    assert report.rejected is None, report.rejected
    assert report.methods
    return set(report.methods.values())


def test_fp4_is_a_method(outcome: Outcome, source: Path) -> None:
    """vLLM has `quantization="fp4"` (`--quantization fp4`)."""
    known = literals(source / QUANTIZATION / "__init__.py", "QuantizationMethods")
    assert "modelopt_fp4" in known
    near = ", ".join(f"`{name}`" for name in known if "fp4" in name)
    finding = f"""No method has that name, and an unknown one is an error. With `fp4` in their names: {near}. A packed
        checkpoint needs no flag: its config says what it is."""
    with outcome.refutes(finding):
        assert "fp4" in known


def test_quantizing_while_loading(outcome: Outcome, source: Path) -> None:
    """vLLM can quantize to FP4 by itself, without a calibration before."""
    known = literals(source / QUANTIZATION / "__init__.py", "QuantizationMethods")
    if ONLINE not in known:
        pytest.skip(f"this vLLM has no {ONLINE}")
    refusal = (source / QUANTIZATION / "online" / "nvfp4.py").read_text(encoding="utf-8")
    finding = f"""Newer releases can, as `{ONLINE}`: experts alone, by their weights and no `_amax`, and its source
        demands a Blackwell of the SM100 family: no Thor, no Hopper."""
    with outcome.confirms(finding):
        assert "SM100" in refusal
        assert "_amax" not in refusal.replace("weight_amax", "")


def test_fp4_in_a_config(outcome: Outcome, judge: Judge, tmp_path: Path) -> None:
    """A BF16 checkpoint that says `fp4` is quantized while it loads."""
    rejected = judge(tiny(tmp_path / "fp4", quantization_config={"quant_method": "fp4"})).rejected
    assert rejected is None or "fp4" in rejected.message
    with outcome.refutes("vLLM refuses it before it asks for the first tensor."):
        assert rejected is None or rejected.tensor


def test_amax_is_read(outcome: Outcome, judge: Judge, source: Path, tmp_path: Path) -> None:
    """vLLM reads `_amax` from a BF16 checkpoint and quantizes by it."""
    directory = tiny(tmp_path / "amax")
    name = f"{EXPERT}.weight_quantizer._amax"
    made = layout([TensorInfo(name, "BF16", (1,))])
    (directory / "amax.safetensors").write_bytes(made.header + np.ones(1, ml_dtypes.bfloat16).tobytes())
    rejected = judge(directory).rejected
    assert schemes(judge(checkpoint_path())) == {"unquantized"}
    assert rejected is None or rejected.tensor == name
    finding = f"""Its loader stops at such a tensor, and its sources do not know ModelOpt's `{STATE}`. Without either,
        BF16 stays BF16."""
    with outcome.refutes(finding):
        assert rejected is None
        assert any(STATE in file.read_text(encoding="utf-8", errors="replace") for file in source.rglob("*.py"))


def test_packed_loads(outcome: Outcome, judge: Judge, packed: Path) -> None:
    """Static compression may lose compatibility with vLLM."""
    report = judge(packed)
    lost = [each for each in report.unwritten if not each.why]
    four_bits = sum(method == "w4a4" for method in report.methods.values())
    finding = f"""It is the way that works: {report.tensors} tensors of a packed checkpoint write all of
        {report.parameters} parameters, and {four_bits} layers get a W4A4 method."""
    assert four_bits
    with outcome.refutes(finding):
        assert report.rejected is not None or lost


def test_blocks_of_32_are_served(outcome: Outcome, judge: Judge, packed: Path, tmp_path: Path) -> None:
    """Blocks of 32 weights are as good as any."""
    directory = tmp_path / "blocks"
    shutil.copytree(packed, directory)
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    for entry in config["quantization_config"]["quantized_layers"].values():
        assert entry["group_size"] == 16
        entry["group_size"] = 32
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    report = judge(directory)
    with outcome.refutes("vLLM's loader takes blocks of 16 and refuses 32."):
        assert report.rejected is None


def test_awq_is_served(outcome: Outcome, source: Path) -> None:
    """`NVFP4_AWQ_LITE_CFG` and `NVFP4_SVDQUANT_DEFAULT_CFG` are ways to vLLM."""
    known = literals(source / QUANTIZATION / "modelopt.py", "LINEAR_ALGOS", "QUANT_ALGOS")
    assert "NVFP4" in known
    with outcome.refutes("Neither `NVFP4_AWQ` nor `NVFP4_SVD`, as ModelOpt calls them in a file, is among vLLM's."):
        assert {"NVFP4_AWQ", "NVFP4_SVD"} & set(known)
