"""Every claim that is decided becomes a row, and the row has to be the page's."""

from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path

import pytest
from outcomes import PAGE, WRITER, Outcome, difference

from pytest_q3omni.omni.tiny import checkpoint_path, record_path


@pytest.fixture
def outcome(request: pytest.FixtureRequest) -> Outcome:
    return Outcome.of(request.function)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    result = yield
    made = getattr(item, "funcargs", {}).get("outcome")
    if isinstance(made, Outcome):
        row = made.row
        item.user_properties.append(("claim", asdict(row)))
        if not item.config.pluginmanager.has_plugin(WRITER):
            said_otherwise = difference(row, PAGE.read_text(encoding="utf-8"))
            assert not said_otherwise, said_otherwise
    return result


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, packed by the recipe `nvfp4-default` with its own record."""
    from pytest_q3omni.calibrate.record import load_record
    from pytest_q3omni.omni.checkpoint import open_checkpoint
    from pytest_q3omni.pack.write import write_checkpoint
    from pytest_q3omni.plan.build import build_plan

    out = tmp_path_factory.mktemp("claims") / "packed"
    plan = build_plan(checkpoint_path(), "nvfp4-default")
    source, record = open_checkpoint(checkpoint_path()), load_record(record_path())
    write_checkpoint(source, plan, out, record=record, record_files=record_path())
    return out
