"""Telling the user of long work while pytest captures output."""

from __future__ import annotations

from collections.abc import Callable

import pytest


def teller(config: pytest.Config) -> Callable[[str], None]:
    """A function that writes one line to the terminal; silent in xdist workers, which have none."""

    def say(text: str) -> None:
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None:
            return
        capture = config.pluginmanager.get_plugin("capturemanager")
        if capture is None:
            reporter.write_line(text)
            return
        with capture.global_and_fixture_disabled():
            reporter.write_line(f"\n{text}")  # the line may already hold the dots of earlier items

    return say
