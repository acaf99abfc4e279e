"""Compile a kernel on its first call, with numba's cache on disk where there is one. PYTEST_DONT_REWRITE

numba looks for a writable folder (`NUMBA_CACHE_DIR`, the package's own `__pycache__`, the user's cache directory) and
gives up with an exception when it finds none; a full disk or a damaged file surfaces only when it compiles. None of
that is a reason not to pack: the kernel is then compiled for this process alone.

Files are replaced whole (numba writes a temporary name first), so processes that compile at the same time, as
pytest-xdist workers do, at worst do the same work twice.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import numba


class Kernel:
    """One compiled function with one signature.

    A single signature, given beforehand, means one compilation: left to itself numba would compile again for read-only
    and for writable arrays.
    """

    def __init__(self, function: Callable[..., Any], signature: Any) -> None:
        self._function, self._signature = function, signature
        self._compiled: Callable[..., Any] | None = None
        self._lock = threading.Lock()
        functools.update_wrapper(self, function)

    def __call__(self, *arguments: Any) -> Any:
        """Run the kernel, compiled."""
        if self._compiled is None:
            with self._lock:  # the threads of the first call arrive together: one of them compiles
                self._compiled = self._compiled or self._compile()
        return self._compiled(*arguments)

    def _compile(self) -> Callable[..., Any]:
        decorate = functools.partial(
            numba.njit, self._signature, nogil=True, boundscheck=False, error_model="numpy", fastmath=False
        )
        try:
            compiled: Callable[..., Any] = decorate(cache=True)(self._function)
        except Exception:  # noqa: BLE001 - a damaged cache can raise anything; a fault of the kernel is raised again below
            compiled = decorate(cache=False)(self._function)
        return compiled


def kernel(signature: Any) -> Callable[[Callable[..., Any]], Kernel]:
    """Decorate a function that numba shall compile for `signature`, without the GIL and without fast-math."""
    return lambda function: Kernel(function, signature)
