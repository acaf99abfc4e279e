"""What the benchmarks against ModelOpt share. One file = one figure, a ratio to a named baseline of the same run."""

import timeit
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import pytest

from pytest_q3omni.conformance._speed import expert_weight
from pytest_q3omni.nvfp4.kernels.threads import cores


@pytest.fixture
def weight() -> Any:
    """Gate and up of one expert of the full-size model, BF16."""
    return expert_weight()


@pytest.fixture
def torch_threads() -> Iterator[Callable[[Callable[[], object]], int]]:
    """Gives torch the better of one thread and as many as our kernels take, for a given baseline; says how many.

    On a busy machine two threads can be several times slower than one, and no baseline deserves that.
    """
    torch = pytest.importorskip("torch", reason="needs the quantize extra: pip install 'pytest-q3omni[quantize]'")
    before = torch.get_num_threads()

    def seconds(threads: int, baseline: Callable[[], object]) -> float:
        torch.set_num_threads(threads)
        baseline()
        return median(timeit.repeat(baseline, number=1, repeat=3))

    def choose(baseline: Callable[[], object]) -> int:
        best = min({1, cores()}, key=lambda threads: seconds(threads, baseline))
        torch.set_num_threads(best)
        return best

    yield choose
    torch.set_num_threads(before)
