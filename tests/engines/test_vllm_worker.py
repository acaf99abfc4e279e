"""What vLLM's worker is asked: the names of kernels and backends, and bytes that are counted once. Without vLLM."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
