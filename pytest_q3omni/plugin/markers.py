"""The markers `tiny`, `gpu` and `thor`: what they mean, and that nobody uses them in a way that would be ignored."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

_MEANING = {
    "tiny": "runs on the built-in tiny model, on any machine",
    "gpu": "needs a CUDA device of compute capability 8.0 or higher; skipped, with what was found, elsewhere",
    "thor": "needs an NVIDIA Thor (compute capability 11.0); skipped, with what was found, elsewhere",
}
_HARDWARE = frozenset({"gpu", "thor"})


def register(config: pytest.Config) -> None:
    """Make the markers known to `--markers` and `--strict-markers`."""
    for name, text in _MEANING.items():
        config.addinivalue_line("markers", f"{name}: {text} (pytest-q3omni)")


def check(items: Iterable[pytest.Item]) -> None:
    """Refuse markers that cannot mean anything.

    Raises:
        pytest.UsageError: names the item and the argument, or both hardware markers.
    """
    for item in items:
        marks = [mark for mark in item.iter_markers() if mark.name in _MEANING]
        for mark in marks:
            if mark.args or mark.kwargs:
                _refuse_arguments(item, mark)
        hardware = {mark.name for mark in marks} & _HARDWARE
        if len(hardware) > 1:
            raise pytest.UsageError(
                f"{item.nodeid}: marked both gpu and thor; expected one hardware marker per item. Fix: keep one "
                "(a Thor is a gpu, too), or parametrize the test into a gpu and a thor item"
            )


def _refuse_arguments(item: pytest.Item, mark: pytest.Mark) -> None:
    shown = [repr(value) for value in mark.args] + [f"{name}={value!r}" for name, value in mark.kwargs.items()]
    raise pytest.UsageError(
        f"{item.nodeid}: marker {mark.name} got the unknown argument {', '.join(shown)}; expected none. Fix: write "
        f"@pytest.mark.{mark.name}; if this marker is not pytest-q3omni's, rename it or run with -p no:q3omni"
    )


def is_tiny(item: pytest.Item) -> bool:
    """True for items that always run on the built-in pair."""
    return item.get_closest_marker("tiny") is not None


def hardware(item: pytest.Item) -> str:
    """The hardware that an item is marked for: gpu or thor; "" where it runs anywhere."""
    return next((name for name in sorted(_HARDWARE) if item.get_closest_marker(name)), "")


def lacking(item: pytest.Item) -> str:
    """What an item's hardware marker needs and this machine lacks, with what was found; "" for nothing."""
    kind = hardware(item)
    if not kind:
        return ""
    from pytest_q3omni.engines.device import missing, probe

    return missing(kind, probe())


def skip_without_hardware(item: pytest.Item) -> None:
    """Give an item whose device is not here a skip mark, with what is needed and what was found."""
    reason = lacking(item)
    if reason:
        item.add_marker(pytest.mark.skip(reason=reason))
