"""Does `q3omni verify` find an error?"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_q3omni.assertions._arguments import AnyCheckpoint, optional_path, path_of
from pytest_q3omni.assertions.outcome import OPEN, fail, hear
from pytest_q3omni.records import Measurement


def assert_verified(
    checkpoint: AnyCheckpoint,
    *,
    source: AnyCheckpoint | None = None,
    record: AnyCheckpoint | None = None,
    require: Sequence[str] = (),
) -> Measurement:
    """Assert that `q3omni verify` finds no error, and that every verdict in `require` was checked and passed.

    The value is the number of errors; `details["verdicts"]` has every state, `details["findings"]` warnings, too.

    Raises:
        AssertionError: lists every finding, errors first, and every required verdict that was not checked.
        Unreadable, UnknownName: there is nothing to judge, or `require` names no verdict.
    """
    __tracebackhide__ = True
    from pytest_q3omni import api

    place = path_of(checkpoint)
    judgement = api.verify(place, source=optional_path(source), record=optional_path(record), require=require)
    hear(judgement)
    errors = [finding for finding in judgement.findings if finding.severity == "error"]
    states = {verdict.name: verdict.state for verdict in judgement.verdicts}
    details = {"verdicts": states, "findings": judgement.findings, "facts": judgement.facts}
    asked = (judgement.verdict(name) for name in dict.fromkeys(require))
    unchecked = [f"{verdict.name}: required, not checked: {verdict.why}" for verdict in asked if verdict.state == OPEN]
    if errors or unchecked:
        shown = ", ".join(f"{name} {state}" for name, state in states.items() if state != OPEN)
        fail("assert_verified", place, shown, [*map(str, judgement.findings), *unchecked])
    return Measurement("errors", len(errors), 0, "errors", details)
