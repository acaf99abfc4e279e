"""What to type where a marker of ours selects nothing: the suite that ships with this package."""

from __future__ import annotations

import re
import shlex

import pytest


def print_command(reporter: pytest.TerminalReporter, exit_status: int) -> None:
    """After `-m tiny` (or gpu, thor) in a project without such items, print the command that runs ours."""
    option = reporter.config.option
    expression = str(getattr(option, "markexpr", ""))
    if exit_status != pytest.ExitCode.NO_TESTS_COLLECTED or not re.search(r"\b(tiny|gpu|thor)\b", expression):
        return
    command = f"pytest --pyargs pytest_q3omni.conformance -m {shlex.quote(expression)}"
    if getattr(option, "benchmark_only", False):
        command += " --benchmark-only"
    reporter.write_line(f"q3omni: -m {shlex.quote(expression)} selects nothing here; the suite that ships runs with")
    reporter.write_line(f"  {command}")
