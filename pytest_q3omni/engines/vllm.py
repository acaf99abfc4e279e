"""vLLM as a serving engine, offline: one checkpoint in a process of its own, in the interpreter that has vLLM.

vLLM is not imported here; `vllm_inside/serve.py` is what runs there. It sees copies of the small files it needs and
links to the safetensors files, nothing else of what a stranger's folder may hold.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_q3omni.engines.engine_process import EngineProcess, environment
from pytest_q3omni.engines.engine_python import find_python
from pytest_q3omni.engines.serving import Weights
from pytest_q3omni.engines.serving_process import ServingProcess
from pytest_q3omni.engines.vllm_loader import INSIDE, stage
from pytest_q3omni.omni.checkpoint import open_checkpoint
from pytest_q3omni.omni.config import read_json

NAME = "vllm"


class VLLMEngine(ServingProcess):
    """vLLM with one checkpoint.

    weights: "random" gives it random ones of the config's shapes; `path` needs no more than config.json then, and
        prompts are token ids. The towers for pictures and sound are left out.
    text_only: the same without the towers, with the checkpoint's own weights: what decoding text needs.
    eager: without CUDA graphs and compilation. at_once: requests that run together; max_model_len: tokens of one.
    linear_backend, moe_backend: vLLM's names, for NVFP4 layers and experts; "emulation" computes W4A4 numerics where
        the device has no FP4. gpu_memory: share of the device's memory that it may take, vLLM's own default without it.
    python: the interpreter that has vLLM; without it, as `find_python`.

    Raises:
        InvalidRequest, MissingDependency: as `find_python`. Unreadable: no checkpoint at `path`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        weights: Weights = "real",
        text_only: bool = False,
        eager: bool = False,
        at_once: int = 64,
        max_model_len: int = 4096,
        linear_backend: str | None = None,
        moe_backend: str | None = None,
        gpu_memory: float | None = None,
        python: str | os.PathLike[str] | None = None,
    ) -> None:
        self.python = find_python(python)
        place = Path(path)
        options: dict[str, Any] = {
            "enforce_eager": eager,
            "max_model_len": max_model_len,
            "max_num_batched_tokens": max(max_model_len, 8192),
            "max_num_seqs": at_once,
        }
        asked = {
            "linear_backend": linear_backend,
            "moe_backend": moe_backend,
            "gpu_memory_utilization": gpu_memory,
        }
        options |= {name: value for name, value in asked.items() if value is not None}
        dummy = weights == "random"

        def request(folder: Path) -> Mapping[str, Any]:
            _show(place, folder / "model", dummy)
            model = str(folder / "model")
            return {"model": model, "dummy": dummy, "text_only": text_only or dummy, "options": options}

        super().__init__(f"vLLM in {self.python}", place, weights, self._begin, request)

    def _begin(self, folder: Path) -> EngineProcess:
        command = [str(self.python), str(INSIDE / "__main__.py"), "serve", str(folder)]
        return EngineProcess(self.name, command, folder, environment(self.python))


def _show(path: Path, folder: Path, dummy: bool) -> None:
    """What vLLM may see: of random weights the config alone."""
    if dummy:
        import json

        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(read_json(path / "config.json")), encoding="utf-8")
    else:
        stage(open_checkpoint(path), folder, whole=True)
