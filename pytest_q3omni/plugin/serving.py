"""The engines of serving benchmarks: one at a time, kept open from item to item, and what they measured so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_q3omni.plugin import markers, options
from pytest_q3omni.plugin.store import ENGINES, TINY_RECIPE, Half, Store, Unavailable

if TYPE_CHECKING:
    from pytest_q3omni.engines.serving import ServingEngine, Weights
    from pytest_q3omni.records import Numerics, TensorInfo


@dataclass(frozen=True)
class Served:
    """Half of a pair as it is served. tensors: what its files hold, or would hold; numerics: what it is made for."""

    half: Half
    path: Path
    weights: Weights
    numerics: Numerics
    config: Mapping[str, Any] = field(repr=False)
    tensors: tuple[TensorInfo, ...] = field(repr=False)


class Engines:
    """The engines of one session. rows: what the benchmarks said of it, for the summary. refused: what an engine said
    that did not load, by half and marker.

    make: the engine of a checkpoint, told whether it is the tiny model.
    """

    def __init__(self, store: Store, make: Callable[[Served, bool], ServingEngine] | None = None) -> None:
        self._store, self._make = store, make or open_engine
        self._known: dict[tuple[Half, str], Served] = {}
        self._open: tuple[Served, ServingEngine] | None = None
        self.rows: list[dict[str, Any]] = []
        self.answers: dict[str, Any] = {}
        self.refused: dict[tuple[Half, str], str] = {}
        store.also_close(self.close)

    def serve(self, half: Half, item: pytest.Item) -> tuple[Served, ServingEngine]:
        """This half of the item's pair, and its engine, loaded or not; any other engine is closed.

        Raises:
            Unavailable: no checkpoint, or no engine, and what is needed.
            Q3OmniError: the checkpoint cannot be served.
        """
        from pytest_q3omni.errors import MissingDependency

        tiny = markers.is_tiny(item)
        key = half, "tiny" if tiny else "yours"
        served = self._known.get(key) or self._half(half, item)
        self._known[key] = served
        if self._open is not None and self._open[0] is served:
            return self._open
        self.close()
        try:
            self._open = served, self._make(served, tiny)
        except MissingDependency as error:
            raise Unavailable(f"needs an engine: {error}" if tiny else _no_gpu_engine(error.found)) from error
        return self._open

    def _half(self, half: Half, item: pytest.Item) -> Served:
        settings = self._store.settings
        if settings.random_weights and not markers.is_tiny(item):
            return self._shapes(half)
        try:
            path = self._store.checkpoint(half, item)
        except Unavailable as reason:
            raise Unavailable(f"{reason}; or {options.RANDOM} for random weights of the full size") from None
        served = _stored(half, path, "real")
        if half == "original" and served.numerics != "bf16":
            raise _no_baseline(served)
        return served

    def _shapes(self, half: Half) -> Served:
        """A directory with the config of this half; a user's own where there is one."""
        from pytest_q3omni.omni.config import read_json
        from pytest_q3omni.pipeline.shapes import FULL_SIZE, write_shapes
        from pytest_q3omni.plugin.twins import cache_directory

        settings = self._store.settings
        if half == "quantized" and settings.quantized is not None:
            options.require_checkpoint(settings.quantized)
            return _stored(half, settings.quantized, "random")
        if half == "original" and settings.original is None and settings.quantized is not None:
            raise Unavailable(
                f"only the quantized half is given, and its shapes need not be the full-size model's: give the "
                f"original, too, with {options.ORIGINAL}"
            )
        source = FULL_SIZE
        if settings.original is not None:
            options.require_checkpoint(settings.original)
            source = settings.original / "config.json"
        recipe = (settings.recipe or TINY_RECIPE) if half == "quantized" else "bf16"
        key = sha256(str(source).encode()).hexdigest()[:12]
        out = cache_directory(settings.cache) / "shapes" / key / f"{half}-{recipe}"
        plan = write_shapes(source, out, recipe)
        tensors = tuple(target for tensor in plan.tensors for target in tensor.targets)
        return Served(half, out, "random", plan.numerics, read_json(out / "config.json"), tensors)

    def close(self) -> None:
        """Give the device back."""
        if self._open is not None:
            self._open[1].close()
        self._open = None


def _no_gpu_engine(found: str) -> str:
    """The error's own remedy is an environment for the loader's judgement, which has no CUDA."""
    return (
        f"needs vLLM 0.26 or newer, built for this device: {found}. Fix: install it in an environment of its own, and "
        "name its interpreter in Q3OMNI_ENGINE_PYTHON; `q3omni doctor` says what else is missing"
    )


def _no_baseline(served: Served) -> Exception:
    from pytest_q3omni.errors import InvalidRequest

    return InvalidRequest(
        f"packed already ({served.numerics})", where=str(served.path), expected="the original in BF16, to compare with",
        fix=f"give it with {options.ORIGINAL}, and this one with {options.QUANTIZED}",
    )  # fmt: skip


def _stored(half: Half, path: Path, weights: Weights) -> Served:
    from pytest_q3omni.engines.packed import file_numerics, packed_modules
    from pytest_q3omni.omni.checkpoint import open_checkpoint

    checkpoint = open_checkpoint(path)
    numerics = file_numerics(checkpoint, packed_modules(checkpoint))
    return Served(half, path, weights, numerics, checkpoint.config, tuple(checkpoint.tensors))


def open_engine(served: Served, tiny: bool) -> ServingEngine:
    """vLLM; for the built-in tiny model transformers, where there is no environment with vLLM.

    Raises:
        MissingDependency: neither.
    """
    from pytest_q3omni.engines.engine_python import find_python
    from pytest_q3omni.engines.vllm import VLLMEngine
    from pytest_q3omni.errors import MissingDependency
    from pytest_q3omni.serve.throughput import MOST_TOKENS

    if not tiny:
        return VLLMEngine(served.path, weights=served.weights, text_only=True, max_model_len=MOST_TOKENS)
    try:
        find_python()
    except MissingDependency:
        if find_spec("transformers") is None:
            raise
        from pytest_q3omni.engines.transformers_serving import TransformersEngine

        return TransformersEngine(served.path)
    return VLLMEngine(served.path, text_only=True, eager=True, max_model_len=512, at_once=8)


def engines_of(config: pytest.Config, store: Store) -> Engines:
    """The session's engines, made when first asked for."""
    if ENGINES not in config.stash:
        config.stash[ENGINES] = Engines(store)
    return config.stash[ENGINES]


def print_table(terminalreporter: pytest.TerminalReporter) -> None:
    """What the session's serving benchmarks measured."""
    rows = terminalreporter.config.stash[ENGINES].rows
    if not rows:
        return
    from pytest_q3omni.report.serving import render_serving

    terminalreporter.section("q3omni serving")
    terminalreporter.write_line(render_serving(rows, width=max(120, terminalreporter._tw.fullwidth)))
