"""One request: build the model, load it, say what was written and which methods were chosen; generate, if asked."""

from __future__ import annotations

import json
import resource
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

_LONGEST = 700


class Rejected(Exception):
    """vLLM refuses the checkpoint: `step` is "configure", "build" or "load"."""

    def __init__(self, step: str, error: Exception, tensor: str = "") -> None:
        super().__init__(step)
        self.step, self.error, self.tensor = step, error, tensor


def answer(request_file: Path, response_file: Path) -> None:
    """Read the request, write the response. Whatever is no judgement of the checkpoint leaves as an exception."""
    request = json.loads(request_file.read_text(encoding="utf-8"))
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(dir=request_file.parent) as folder:
        scratch = Path(folder)
        response = _respond(request, scratch)
    response["seconds"] = round(time.monotonic() - begin, 3)
    response["peak_bytes"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    response_file.write_text(json.dumps(response), encoding="utf-8")


def _respond(request: dict[str, Any], scratch: Path) -> dict[str, Any]:
    from . import kernels, surroundings

    surroundings.prepare(scratch)
    import torch
    import vllm
    from vllm.platforms import current_platform

    kernels.allow_emulation()
    versions = {"vllm": vllm.__version__, "torch": torch.__version__, "platform": current_platform.device_name}
    response: dict[str, Any] = {"versions": versions, "rejected": None, "tensors": len(request["tensors"])}
    try:
        if request["depth"] == "answers":
            from . import generate

            response["answers"] = generate.answers(request, _step)
        else:
            response.update(_loaded(request, scratch))
    except Rejected as refusal:
        response["rejected"] = {
            "step": refusal.step,
            "tensor": refusal.tensor,
            "message": message_of(refusal.error),
        }
    return response


def _loaded(request: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """What loading the checkpoint shows, by headers or by bytes."""
    from . import build, coverage, methods, surroundings

    by_bytes = request["depth"] == "bytes"
    feed = build.Feed([tuple(tensor) for tensor in request["tensors"]])
    config = _step("configure", lambda: build.engine_config(request["model"]))
    with surroundings.one_process(config, scratch):
        model = _step("build", lambda: build.build_model(config, "cpu" if by_bytes else "meta"))
        parameters = dict(model.named_parameters())
        prove = coverage.by_bytes if by_bytes else coverage.by_headers
        tensors = feed.from_files if by_bytes else feed.without_data
        written = _step("load", lambda: prove(parameters, lambda: model.load_weights(tensors())), feed)
        prefixes = build.checkpoint_names(model, request["tensors"])
        chosen = {
            build.in_checkpoint(name, prefixes): methods.scheme_of(layer)
            for name, layer in methods.layers(model).items()
        }
        short = [name for name in parameters if written.count(name) < parameters[name].numel()]
        return {
            "parameters": len(parameters),
            "elements": sum(value.numel() for value in parameters.values()),
            "methods": chosen,
            "unwritten": [_unwritten(name, model, written, prefixes) for name in short],
        }


def _unwritten(name: str, model: Any, written: Any, prefixes: dict[str, str]) -> dict[str, Any]:
    from . import build, methods

    owner, _, suffix = name.rpartition(".")
    return {
        "parameter": name,
        "module": build.in_checkpoint(owner, prefixes),
        "suffix": suffix,
        "written": written.count(name),
        "total": written.parameters[name].numel(),
        "rows": len(written.rows[name]),
        "gaps": written.gaps(name),
        "why": methods.why_unwritten(model.get_submodule(owner), suffix),
    }


def _step(step: str, work: Callable[[], Any], feed: Any = None) -> Any:
    """Do a step; what vLLM raises in it is its judgement of the checkpoint, unless a package is missing."""
    try:
        return work()
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # whatever a foreign loader raises
        raise Rejected(step, error, "" if feed is None else feed.last) from error


def message_of(error: Exception) -> str:
    """vLLM's own words, shortened; an error without words is told by the line that raised it."""
    text = " ".join(str(error).split()).partition(" [type=")[0]  # pydantic goes on with all that it was given
    if not text:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{Path(frame.filename).name}:{frame.lineno}, in {frame.name}: {frame.line}"
    text = f"{type(error).__name__}: {text}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
