"""Hardware items of parallel workers run one at a time, and leave the device empty for the next worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from pytest_q3omni.errors import Unwritable
from pytest_q3omni.plugin.fixtures import STORE
from pytest_q3omni.plugin.locks import locked
from pytest_q3omni.plugin.twins import cache_directory

_REFUSED = pytest.StashKey[Unwritable]()


@contextmanager
def turn(item: pytest.Item) -> Iterator[None]:
    """Hold the machine's hardware for one item.

    Not for longer: xdist hands a worker its last item only when the others are nearly done, so a worker that kept the
    lock between items could wait for workers that wait for it. Models are closed: the next worker needs the memory.

    Where the lock cannot be had, `fail_without_turn` reports it: raised here, around pytest's own protocol, an error
    would take the whole worker down.
    """
    store = item.config.stash[STORE]
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(cache_directory(store.settings.cache) / "hardware.lock"))
        except Unwritable as error:
            item.stash[_REFUSED] = error
        stack.callback(store.close_models)
        yield


def fail_without_turn(item: pytest.Item) -> None:
    """Fail an item whose turn could not come: it must not share the hardware with another worker's."""
    error = item.stash.get(_REFUSED, None)
    if error is not None:
        pytest.fail(f"{type(error).__name__}: {error}", pytrace=False)
