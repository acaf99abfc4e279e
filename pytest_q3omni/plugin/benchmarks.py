"""How this package's items and pytest-benchmark get along."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

_CONFORMANCE = "pytest_q3omni.conformance"


def refuse_workers(config: pytest.Config) -> None:
    """No timing beside other tests: pytest-benchmark misses it where the ini says --benchmark-skip.

    Raises:
        pytest.UsageError: --benchmark-only together with xdist workers.
    """
    if config.getoption("benchmark_only", False) and config.getoption("dist", "no") != "no":
        raise pytest.UsageError(
            "--benchmark-only runs in one process: workers would measure each other. Fix: leave out -n (or say -n 0)"
        )


def skip_unless_asked(config: pytest.Config, items: Iterable[pytest.Item]) -> None:
    """Benchmarks of the conformance suite run only where benchmarks were asked for: they take their time."""
    if config.getoption("benchmark_only", False) or config.getoption("benchmark_enable", False):
        return
    skip = pytest.mark.skip(reason="a benchmark: runs with --benchmark-only or --benchmark-enable")
    for item in items:
        module = getattr(getattr(item, "module", None), "__name__", "")
        if "benchmark" in getattr(item, "fixturenames", ()) and module.startswith(_CONFORMANCE):
            item.add_marker(skip)
