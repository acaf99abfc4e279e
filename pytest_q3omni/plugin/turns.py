"""Hardware items of parallel workers run one at a time, and leave the device empty for the next worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pytest_q3omni.plugin.fixtures import STORE
from pytest_q3omni.plugin.locks import locked
from pytest_q3omni.plugin.twins import cache_directory


@contextmanager
def turn(config: pytest.Config) -> Iterator[None]:
    """Hold the machine's hardware for one item.

    Not for longer: xdist hands a worker its last item only when the others are nearly done, so a worker that kept the
    lock between items could wait for workers that wait for it. Models are closed: the next worker needs the memory.
    """
    store = config.stash[STORE]
    with locked(cache_directory(store.settings.cache) / "hardware.lock"):
        try:
            yield
        finally:
            store.close_models()
