"""What travels from xdist workers to the process that prints: plain data in `workeroutput`."""

from __future__ import annotations

from typing import Any

import pytest

_REFUSAL = "q3omni_refusal"


def output(config: pytest.Config) -> dict[str, Any] | None:
    """The worker's outgoing data; None in the process that prints, which is the only one without xdist."""
    found: dict[str, Any] | None = getattr(config, "workeroutput", None)
    return found


def refuse(config: pytest.Config, items: list[pytest.Item], error: pytest.UsageError) -> None:
    """End the run with a usage error. A worker cannot, xdist calls it a crash: it runs nothing and sends the text.

    Raises:
        pytest.UsageError: `error`, outside workers.
    """
    outgoing = output(config)
    if outgoing is None:
        raise error
    items.clear()
    outgoing[_REFUSAL] = str(error)


def raise_refusal(node: Any) -> None:
    """In the process that prints: raise what a worker refused.

    Raises:
        pytest.UsageError: the worker's text.
    """
    text = getattr(node, "workeroutput", {}).get(_REFUSAL)
    if text is not None:
        raise pytest.UsageError(text)
