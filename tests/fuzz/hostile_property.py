"""What holds of every input: a judgement that can be printed in all formats, or one of our own errors in one line."""

from __future__ import annotations

import json
from pathlib import Path

from pytest_q3omni.api import verify
from pytest_q3omni.errors import Q3OmniError
from pytest_q3omni.records import Judgement
from pytest_q3omni.report import json as machine
from pytest_q3omni.report import terminal

MOST_FINDINGS = 2_000
LONGEST = 600


def holds(checkpoint: Path, *, source: Path | None = None, record: Path | None = None) -> Judgement | None:
    """Judge, print, and check what was printed; None where the judge refused with an error of ours."""
    try:
        judgement = verify(checkpoint, source=source, record=record)
    except Q3OmniError:
        return None
    assert len(judgement.findings) <= MOST_FINDINGS
    for finding in judgement.findings:
        for text in (finding.where, finding.found, finding.expected, finding.fix):
            assert len(text) <= LONGEST, finding.check
    printed = terminal.render_judgement(judgement)
    assert all(char.isprintable() or char == "\n" for char in printed)
    assert json.loads(machine.render_judgement(judgement))["schema"] == 1
    return judgement
