"""The hooks: doors. Each declares, delegates, returns; nothing heavy is imported before an item needs it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from pytest_q3omni.plugin import benchmarks, hint, markers, options, turns, workers
from pytest_q3omni.plugin.fixtures import STORE
from pytest_q3omni.plugin.store import ENGINES, Store
from pytest_q3omni.plugin.terminal import teller


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options and their ini twins."""
    options.declare(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Markers, settings, the store; the report only where one is asked for."""
    markers.register(config)
    benchmarks.refuse_workers(config)
    settings = config.stash[options.SETTINGS] = options.read(config)
    config.stash[STORE] = Store(settings, teller(config))
    if settings.report is not None:
        from pytest_q3omni.plugin.reporting import Reporting

        config.pluginmanager.register(Reporting(config, settings.report), "q3omni-report")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Wrong flags end the run here, before anything is collected."""
    options.check(session.config)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Wrong markers end the run here; benchmarks of the suite wait until asked for."""
    try:
        markers.check(items)
    except pytest.UsageError as error:
        workers.refuse(config, items, error)
    benchmarks.skip_unless_asked(config, items)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """What a worker refused, this process says."""
    workers.raise_refusal(node)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before pytest looks at skip marks: what the hardware lacks is one. An item that got no turn fails here."""
    markers.skip_without_hardware(item)
    turns.fail_without_turn(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Under xdist, hardware items take turns; those that will be skipped need none."""
    if workers.output(item.config) is None or not markers.hardware(item) or markers.lacking(item):
        return (yield)
    with turns.turn(item):
        return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
    """The command of our suite, where a marker of ours selected nothing; the table of serving benchmarks."""
    hint.print_command(terminalreporter, exitstatus)
    if ENGINES in terminalreporter.config.stash:
        from pytest_q3omni.plugin.serving import print_table

        print_table(terminalreporter)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Free the models."""
    if STORE in config.stash:
        config.stash[STORE].close_models()
