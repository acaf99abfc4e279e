"""What the benchmarks against ModelOpt share. One file = one figure, a ratio to a named baseline of the same run."""

from collections.abc import Iterator
from typing import Any

import pytest

from pytest_q3omni.conformance._speed import expert_weight
from pytest_q3omni.nvfp4.kernels.threads import cores


@pytest.fixture
def weight() -> Any:
    """Gate and up of one expert of the full-size model, BF16."""
    return expert_weight()


@pytest.fixture
def torch_threads() -> Iterator[int]:
    """Give torch as many threads as our kernels take, and say how many."""
    torch = pytest.importorskip("torch", reason="needs the quantize extra: pip install 'pytest-q3omni[quantize]'")
    before = torch.get_num_threads()
    torch.set_num_threads(cores())
    yield cores()
    torch.set_num_threads(before)
