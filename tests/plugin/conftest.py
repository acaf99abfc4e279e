"""Shared by the plugin's tests, which run pytest inside pytest."""

from contextlib import suppress

import ml_dtypes  # noqa: F401
import numba  # noqa: F401
import numpy  # noqa: F401  # pytester forgets modules that a run inside it imported; these load once per process
import pytest

from pytest_q3omni.omni.tiny import checkpoint_path, record_path
from pytest_q3omni.plugin.twins import quantized_twin

with suppress(ImportError):
    import torch  # noqa: F401  # loaded twice in one process, it corrupts memory (seen: SystemError, 24 GB, SIGSEGV)


@pytest.fixture(autouse=True)
def outside_workers(monkeypatch):
    """pytest-benchmark looks for xdist in the environment, where an outer run with workers leaves its name."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


@pytest.fixture(scope="session")
def tiny_cache(tmp_path_factory):
    """The option for a cache that has the tiny model's twin: pytester moves the home, and with it the default cache."""
    cache = tmp_path_factory.mktemp("cache")
    quantized_twin(checkpoint_path(), "nvfp4-default", cache, record=record_path(), say=str)
    return f"--q3omni-cache={cache}"


@pytest.fixture
def mine(pytester):
    """The options for two checkpoints of a user's, real enough to be read."""
    for name in ("mine", "mine-packed"):
        folder = pytester.mkdir(name)
        for file in ("config.json", "model.safetensors"):
            folder.joinpath(file).write_bytes((checkpoint_path() / file).read_bytes())
    return "--q3omni-original=mine", "--q3omni-quantized=mine-packed"
