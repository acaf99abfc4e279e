"""`verify --engine vllm`, with a program in the place of vLLM's interpreter."""

import json
import sys
from pathlib import Path

import pytest
from command_line import TINY, q3omni, refused

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))

from fake_interpreter import LOADED, FakeInterpreter

pytestmark = pytest.mark.tiny

METHODS = {f"thinker.model.layers.{layer}.mlp.experts": "w4a16" for layer in (0, 1)}


@pytest.fixture(autouse=True)
def no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's environment is found."""
    monkeypatch.delenv("Q3OMNI_ENGINE_PYTHON", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def test_what_the_loader_found_is_printed(weight_only: Path, tmp_path: Path) -> None:
    fake = FakeInterpreter(tmp_path, loads={**LOADED, "methods": METHODS})
    done = q3omni("verify", weight_only, "--engine", "vllm", "--engine-python", fake.python, "--require", "loads",
                  "--format", "json", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done
    verdict = json.loads(done.stdout)["verdicts"]["loads"]
    assert verdict["state"] == "pass"
    assert "vLLM 0.32.0, headers" in verdict["why"]
    assert "2 as W4A16" in verdict["why"]


def test_a_refusal_is_a_failed_verdict(weight_only: Path, tmp_path: Path) -> None:
    refusal = {"step": "load", "tensor": "thinker.lm_head.weight", "message": "ValueError: no"}
    fake = FakeInterpreter(tmp_path, loads={**LOADED, "rejected": refusal})
    done = q3omni("verify", weight_only, "--engine", "vllm", "--engine-python", fake.python, cwd=tmp_path)
    assert done.returncode == 1, done
    assert "refuses the checkpoint while it loads: ValueError: no" in done.stdout


def test_without_vllm_it_is_said_how_to_get_it(weight_only: Path, tmp_path: Path) -> None:
    said = refused(q3omni("verify", weight_only, "--engine", "vllm", cwd=tmp_path))
    assert "no vLLM" in said
    assert "vllm_requirements.txt" in said
    assert "tox run -e vllm" in said


def test_a_crash_is_no_verdict(weight_only: Path, tmp_path: Path) -> None:
    fake = FakeInterpreter(tmp_path, says=["RuntimeError: out of luck"], code=1)
    said = refused(q3omni("verify", weight_only, "--engine", "vllm", "--engine-python", fake.python, cwd=tmp_path))
    assert "out of luck" in said


def test_loads_can_be_required(weight_only: Path, tmp_path: Path) -> None:
    done = q3omni("verify", weight_only, "--require", "loads", cwd=tmp_path)
    assert done.returncode == 2
    assert "loads: needs an engine's loader" in done.stderr


@pytest.mark.parametrize("options", [["--depth", "bytes"], ["--engine-python", "python"]])
def test_options_of_the_engine_need_one(options: list[str], weight_only: Path, tmp_path: Path) -> None:
    assert "add --engine vllm" in refused(q3omni("verify", weight_only, *options, cwd=tmp_path))


def test_answers_need_the_source(weight_only: Path, tmp_path: Path) -> None:
    fake = FakeInterpreter(tmp_path, loads=LOADED)
    asked = ["verify", weight_only, "--engine", "vllm", "--engine-python", fake.python, "--depth", "answers"]
    assert "--source SRC" in refused(q3omni(*asked, cwd=tmp_path))


def test_an_original_is_not_loaded_as_quantized(tmp_path: Path) -> None:
    """It loads, and nothing in it is quantized: no pass."""
    fake = FakeInterpreter(tmp_path, loads={**LOADED, "methods": {"thinker.lm_head": "unquantized"}})
    done = q3omni("verify", TINY, "--engine", "vllm", "--engine-python", fake.python, "--format", "json", cwd=tmp_path)
    assert done.returncode == 1
    assert json.loads(done.stdout)["verdicts"]["loads"]["state"] == "fail"
