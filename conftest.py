"""Settings of this repository's own test run."""

import os

import pytest
from hypothesis import HealthCheck, settings

# One thread for torch, here and in subprocesses: two on busy cores are several times slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine is no fault of the code: neither a slow example nor slow generation fails a test.
settings.register_profile("q3omni", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("q3omni")

pytest_plugins = ["pytester"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out `slow` items unless the marker expression asks for them."""
    if "slow" in config.option.markexpr:
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]
