"""Run a kernel over ranges of blocks on all cores. PYTEST_DONT_REWRITE

Plain threads around kernels that release the GIL, not numba's `parallel=True`: its thread pools abort the process when
two Python threads use them at once (workqueue) or after a fork (OpenMP), and both happen under pytest.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

T = TypeVar("T")

SMALLEST_RANGE = 8_192
"""Blocks (of 16 weights) below which a thread costs more than it saves: 256 KiB of BF16, about 0.05 ms."""

_pool: ThreadPoolExecutor | None = None


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def over_ranges(run: Callable[[int, int], T], blocks: int) -> list[T]:
    """Call `run(first, past_last)` for ranges that cover `blocks`, and return the results in the order of the ranges.

    The first range runs in the calling thread, the others in a pool that all callers share.
    """
    count = max(1, min(cores(), blocks // SMALLEST_RANGE))
    ranges = list(pairwise(blocks * edge // count for edge in range(count + 1)))
    others = [_shared_pool().submit(run, *each) for each in ranges[1:]]
    return [run(*ranges[0]), *(other.result() for other in others)]


def _shared_pool() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(max_workers=cores(), thread_name_prefix="nvfp4")
    return _pool


def _forget_pool() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)  # the child has the pool object, but not its threads
