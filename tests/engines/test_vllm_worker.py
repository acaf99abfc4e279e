"""What vLLM's worker is asked: the names of kernels and backends, and bytes that are counted once. Without vLLM."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from enum import Enum
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_q3omni.engines.vllm_inside import worker
from pytest_q3omni.engines.vllm_inside.serve import _graphs, _logprobs, _tokens
from pytest_q3omni.engines.vllm_loader import INSIDE

pytestmark = pytest.mark.tiny


class Backend(Enum):
    MARLIN = 1


class Method:
    """A layer's method of vLLM's, with what it chose."""

    def __init__(self, **chosen) -> None:
        vars(self).update(chosen)


class CutlassKernel:
    pass


@pytest.mark.parametrize(
    ("chosen", "name"),
    [
        ({"nvfp4_backend": Backend.MARLIN}, "NVFP4 MARLIN"),
        ({"nvfp4_backend": "cutlass"}, "NVFP4 cutlass"),
        ({"fp8_backend": Backend.MARLIN}, "FP8 MARLIN"),
        ({"mxfp8_backend": Backend.MARLIN}, "MXFP8 MARLIN"),
        ({"unquantized_backend": Backend.MARLIN}, "MARLIN"),
        ({"nvfp4_backend": None, "kernel": CutlassKernel()}, "CutlassKernel"),
        ({"fp8_linear": CutlassKernel()}, "CutlassKernel"),
        ({"kernel": None}, "Method"),
        ({}, "Method"),
    ],
)
def test_the_kernel_that_a_method_chose(chosen, name) -> None:
    assert worker.kernel_of(SimpleNamespace(quant_method=Method(**chosen))) == name


def test_compressed_tensors_keeps_it_beside_the_method() -> None:
    layer = SimpleNamespace(quant_method=Method(kernel=None), scheme=Method(kernel=CutlassKernel()))
    assert worker.kernel_of(layer) == "CutlassKernel"


def test_the_name_of_an_attention_backend() -> None:
    named = SimpleNamespace(get_name=lambda: "FLASH_ATTN")
    assert worker.backend_of(SimpleNamespace(attn_backend=named)) == "FLASH_ATTN"
    assert worker.backend_of(SimpleNamespace(attn_backend=Backend.MARLIN)) == "MARLIN"
    assert worker.backend_of(SimpleNamespace(attn_backend="TORCH_SDPA")) == "TORCH_SDPA"


def test_shared_memory_is_counted_once() -> None:
    torch = pytest.importorskip("torch")
    cache = torch.zeros(10, dtype=torch.float32)
    other = torch.zeros(3, dtype=torch.uint8)
    assert worker._bytes([cache, cache[2:4], [other, cache.view(2, 5)]]) == 43
    assert worker._bytes(()) == 0


def config(**options):
    cache = SimpleNamespace(num_gpu_blocks=options.get("blocks"), block_size=16)
    model = SimpleNamespace(enforce_eager=options.get("eager", False))
    return SimpleNamespace(cache_config=cache, model_config=model, compilation_config=options.get("compilation"))


def test_how_graphs_are_captured() -> None:
    assert _graphs(config(eager=True)) == "none"
    assert _graphs(config(compilation=SimpleNamespace(cudagraph_mode=Enum("Mode", "FULL_AND_PIECEWISE")(1)))) == (
        "full_and_piecewise"
    )
    assert _graphs(config(compilation=SimpleNamespace())) == "none"
    assert (_tokens(config(blocks=10)), _tokens(config(blocks=None))) == (160, 0)


def test_log_probabilities_begin_with_the_second_token() -> None:
    choice = lambda logprob, rank: SimpleNamespace(logprob=logprob, rank=rank)  # noqa: E731
    output = SimpleNamespace(
        prompt_token_ids=[5, 6, 7],
        prompt_logprobs=[None, {6: choice(-0.1, 1)}, {7: choice(-3.0, 9), 8: choice(-0.2, 1)}],
    )
    assert _logprobs(output) == {"tokens": [6, 7], "logprobs": [-0.1, -3.0], "most_likely": [6, 8]}


def test_a_request_that_fails_is_answered_and_the_next_one_served(tmp_path: Path) -> None:
    """The loop itself, in a process as vLLM's: neighbours of its files are not on the path, and errors are answers."""
    theirs_in, ask = os.pipe()
    answers, theirs_out = os.pipe()
    command = [sys.executable, str(INSIDE / "__main__.py"), "serve", str(tmp_path), str(theirs_in), str(theirs_out)]
    process = subprocess.Popen(command, pass_fds=(theirs_in, theirs_out), cwd=tmp_path)
    os.close(theirs_in)
    os.close(theirs_out)
    with os.fdopen(ask, "w") as requests, os.fdopen(answers) as lines:
        for request in ({"do": "dance"}, {"do": "memory"}, {"do": "generate"}):
            requests.write(json.dumps(request) + "\n")
        requests.flush()
        said = [json.loads(lines.readline()) for _ in range(3)]
    assert ["error" in one for one in said] == [True] * 3
    assert "do_dance" in said[0]["error"]
    assert process.wait(60) == 0, "it ends with its pipe"


@pytest.fixture
def fused(tmp_path, monkeypatch) -> Path:
    """A folder in the place of vLLM's own `configs`."""
    module = SimpleNamespace(
        __file__=str(tmp_path / "fused_moe.py"),
        get_config_file_name=lambda experts, width, dtype: f"E={experts},N={width}",
    )
    monkeypatch.setitem(sys.modules, "vllm.model_executor.layers.fused_moe.fused_moe", module)
    monkeypatch.delenv("VLLM_TUNED_CONFIG_FOLDER", raising=False)
    (tmp_path / "configs").mkdir()
    return tmp_path / "configs"


def test_settings_tuned_in_a_folder_of_the_users_are_seen(fused, tmp_path, monkeypatch) -> None:
    """It is what the advice for an untuned kernel ends with: an answer that stays "default" would be no answer."""
    torch = pytest.importorskip("torch")
    experts = SimpleNamespace(quant_method=Method(unquantized_backend="TRITON"), w2_weight=torch.zeros(8, 4, 64))
    monkeypatch.setattr(worker.methods, "layers", lambda model: {"experts": experts})
    assert worker._tuning(None) == "default"
    mine = tmp_path / "mine"
    mine.mkdir()
    monkeypatch.setenv("VLLM_TUNED_CONFIG_FOLDER", str(mine))
    assert worker._tuning(None) == "default"
    (mine / "E=8,N=64").touch()
    assert worker._tuning(None) == "E=8,N=64"
    (mine / "E=8,N=64").rename(fused / "E=8,N=64")
    assert worker._tuning(None) == "E=8,N=64"


PARENT = """
import os, subprocess, sys
theirs_in, ask = os.pipe()
answers, theirs_out = os.pipe()
command = [sys.executable, {program!r}, "serve", ".", str(theirs_in), str(theirs_out)]
child = subprocess.Popen(command, pass_fds=(theirs_in, theirs_out), start_new_session=True)
request = b'{{"do": "load", "model": ".", "dummy": false, "text_only": true, "options": {{}}}}'
os.write(ask, request + b"\\n")
print(child.pid, flush=True)
child.wait()
"""


def test_an_engine_that_loads_ends_with_the_process_that_asked(tmp_path: Path) -> None:
    """Killed, it cannot close anything, and an engine that loads reads no pipe."""
    loading = tmp_path / "loading"
    (tmp_path / "torch.py").write_text(f"import pathlib, time\npathlib.Path({str(loading)!r}).touch()\ntime.sleep(300)")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    program = PARENT.format(program=str(INSIDE / "__main__.py"))
    parent = subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, cwd=tmp_path)
    assert parent.stdout is not None
    engine = int(parent.stdout.readline())
    try:
        assert _within(60, loading.exists)
        os.kill(engine, 0)
        parent.kill()
        parent.wait()
        assert _within(30, lambda: not _runs(engine)), "it goes on loading for nobody"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(engine, signal.SIGKILL)
        parent.stdout.close()


def _within(seconds: float, holds) -> bool:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    return bool(holds())


def _runs(number: int) -> bool:
    """Where nobody waits for the orphan, as in a container, its entry stays: as a zombie."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
