"""Which checkpoints a module of the suite asks.

A module takes part by importing `pytest_generate_tests` from here. Its items use `pair` where files are judged: the
tiny pair always, the user's where options give one. They use `runner` where a model runs: the tiny one anywhere, the
user's on hardware that can hold it.
"""

from __future__ import annotations

import pytest

from pytest_q3omni.plugin.options import SETTINGS

_RUNNERS = [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("tiny", "gpu", "thor")]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize `pair` ("tiny" and "yours") and `runner` ("tiny", "gpu" and "thor"), with their markers."""
    if "pair" in metafunc.fixturenames:
        settings = metafunc.config.stash[SETTINGS]
        pairs = [pytest.param("tiny", marks=pytest.mark.tiny)]
        if settings.original is not None or settings.quantized is not None:
            pairs.append(pytest.param("yours"))
        metafunc.parametrize("pair", pairs)
    if "runner" in metafunc.fixturenames:
        metafunc.parametrize("runner", _RUNNERS)
