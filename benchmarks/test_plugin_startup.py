"""Start-up: pytest with this plugin against pytest without it (`-p no:q3omni`), on a file without tests.

The plugin may add 30 ms; the difference of the two medians says what it adds. Byte code is cached, as it is from the
second start on.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_q3omni.conformance._speed import MILLISECONDS, Baseline, measure

pytestmark = [pytest.mark.tiny, pytest.mark.benchmark(group="start of pytest")]


def test_startup_against_plain_pytest(benchmark: Any, tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text("", encoding="utf-8")
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path / "bytecode")}
    for name in ("PYTHONDONTWRITEBYTECODE", "PYTEST_ADDOPTS"):
        environment.pop(name, None)

    def start(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    done = measure(
        benchmark, start, Baseline("pytest -p no:q3omni", lambda: start("-p", "no:q3omni")), MILLISECONDS,
        rounds=21, packages=("pytest", "pytest-q3omni"),
    )  # fmt: skip
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, done.stderr
    assert "--q3omni-original" in start("--help").stdout
    assert "--q3omni-original" not in start("--help", "-p", "no:q3omni").stdout
