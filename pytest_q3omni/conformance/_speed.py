"""How every benchmark of this package measures: the work and a named baseline take turns, and medians are compared.

A baseline of the same run is what makes a figure mean something on another machine. Taking turns lets a machine that
slows down slow both. What a figure rests on goes into `extra_info`, so that the JSON file says it without this code.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

_Result = TypeVar("_Result")
WARMUP_ROUNDS = 2  # compiled kernels, page cache, allocators


class Scale(NamedTuple):
    """What is printed for seconds: a unit, and how to get there."""

    unit: str
    of: Callable[[float], float]


MILLISECONDS = Scale("ms", lambda seconds: seconds * 1e3)


def gigabytes_per_second(nbytes: int) -> Scale:
    """The rate at which `nbytes` bytes go by; a gigabyte is 1e9 bytes."""
    return Scale("GB/s", lambda seconds: nbytes / 1e9 / seconds)


def tokens_per_second(tokens: int) -> Scale:
    """The rate at which `tokens` tokens are made."""
    return Scale("tokens/s", lambda seconds: tokens / seconds)


class Baseline(NamedTuple):
    """What the work is measured against. The name says what is done, by whose code."""

    name: str
    run: Callable[[], object]


def measure(
    benchmark: Any,
    work: Callable[[], _Result],
    baseline: Baseline,
    scale: Scale,
    *,
    rounds: int,
    packages: Iterable[str],
    **facts: Any,
) -> _Result:
    """Time `work` with pytest-benchmark, and the baseline before each of its rounds; returns what `work` returns.

    `extra_info` gets what `describe` says, and baseline, baseline_figure and ratio: how many times as fast as the
    baseline the work is. With --benchmark-disable both run once.
    """
    took: list[float] = []

    def turn() -> None:
        start = perf_counter()
        baseline.run()
        took.append(perf_counter() - start)

    result: _Result = benchmark.pedantic(work, setup=turn, rounds=rounds, warmup_rounds=WARMUP_ROUNDS)
    describe(benchmark, scale, packages=packages, **facts)
    if benchmark.stats is not None:
        reference = median(took[WARMUP_ROUNDS:])
        benchmark.extra_info.update(
            baseline=baseline.name,
            baseline_figure=scale.of(reference),
            ratio=reference / benchmark.stats.stats.median,
        )
    return result


def describe(benchmark: Any, scale: Scale, *, packages: Iterable[str], device: str | None = None, **facts: Any) -> None:
    """Say in `extra_info` what the figure of a benchmark is and rests on; nothing with --benchmark-disable.

    unit and figure (of the median), device (without one, the CPU), load_average (of the last minute: above 1.5 or so,
    others were at work, and the figure is not worth much; None on Windows, which counts none), versions of `packages`,
    and `facts`: bytes, shape, tokens, whatever the figure depends on.
    """
    if benchmark.stats is not None:
        benchmark.extra_info.update(
            unit=scale.unit,
            figure=scale.of(benchmark.stats.stats.median),
            device=device or cpu(),
            load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            versions=_versions(packages),
            **facts,
        )


def expert_weight() -> Any:
    """Gate and up of one expert of the full-size model: BF16 (1536, 2048), random values as small as trained ones."""
    import ml_dtypes
    import numpy as np

    values = np.random.default_rng(0).standard_normal((1536, 2048), np.float32)
    return (values * np.float32(0.02)).astype(ml_dtypes.bfloat16)


def cpu() -> str:
    """The CPU as a benchmark sees it: architecture, and the cores that this process may use."""
    from pytest_q3omni.nvfp4.kernels.threads import cores

    return f"{platform.machine()} CPU, {cores()} cores"


def _versions(packages: Iterable[str]) -> dict[str, str]:
    """Name -> installed version; packages that are not installed are left out."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
