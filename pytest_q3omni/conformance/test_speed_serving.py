"""How a checkpoint is served, beside its original and the roofline. Skipped unless asked for: `--benchmark-only`.

Original and quantized run in one session, one after the other, in an engine of their own: vLLM on hardware. The tiny
items walk the same way on any machine; their figures say nothing of a full-size model.
"""

from __future__ import annotations

from typing import Any

import pytest

from pytest_q3omni.conformance._serving import Serving
from pytest_q3omni.serve.throughput import FULL_POINTS, TINY_POINTS, Point

_LOAD = "load"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """All points of the original, then all of the quantized checkpoint: an engine takes minutes to start."""
    if "point" not in metafunc.fixturenames:
        return
    items = []
    for kind in ("tiny", "gpu", "thor"):
        for half in ("original", "quantized"):
            for point in (_LOAD, *(TINY_POINTS if kind == "tiny" else FULL_POINTS)):
                name = f"{kind}-{half}-{str(point).replace(' ', '-')}"
                items.append(pytest.param(kind, half, point, marks=getattr(pytest.mark, kind), id=name))
    metafunc.parametrize("kind,half,point", items)


def test_serving(benchmark: Any, request: pytest.FixtureRequest, kind: str, half: Any, point: Point | str) -> None:
    """Load: seconds, bytes, kernels, and whether it still answers. Then each point: warm-ups, rounds, medians."""
    serving = Serving(request, half, kind)
    if isinstance(point, str):
        serving.load(benchmark)
    else:
        serving.measure(benchmark, point)
