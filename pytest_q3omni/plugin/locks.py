"""File locks between processes: one fills the cache while others wait; one at a time uses the hardware."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold the lock `file` (created where needed), waiting for whoever has it.

    Raises:
        Unwritable: the lock cannot be created; names the option that moves the cache.
    """
    from filelock import FileLock

    from pytest_q3omni.errors import Unwritable

    lock = FileLock(str(file))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError) as error:  # filelock's for file systems without locks
        found = getattr(error, "strerror", None) or str(error)
        raise Unwritable(
            found, where=str(file.parent), expected="a directory that can be written",
            fix="choose another one with --q3omni-cache",
        ) from error  # fmt: skip
    try:
        yield
    finally:
        lock.release()
