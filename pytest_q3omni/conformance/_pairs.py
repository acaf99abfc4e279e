"""Which checkpoints a module of the suite asks: the tiny pair always, the user's where options give one.

A module takes part by importing `pytest_generate_tests` from here, with the items that take `pair`.
"""

from __future__ import annotations

import pytest

from pytest_q3omni.plugin.options import SETTINGS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize `pair`: "tiny", an item marked `tiny`, and "yours", where a checkpoint of the user's is given."""
    if "pair" not in metafunc.fixturenames:
        return
    settings = metafunc.config.stash[SETTINGS]
    pairs = [pytest.param("tiny", marks=pytest.mark.tiny)]
    if settings.original is not None or settings.quantized is not None:
        pairs.append(pytest.param("yours"))
    metafunc.parametrize("pair", pairs)
