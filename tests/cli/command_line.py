"""Runs `q3omni` in a process of its own."""

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

from pytest_q3omni.omni.tiny import checkpoint_path

FULL_SIZE = str(files("pytest_q3omni.omni") / "qwen3_omni_30b_config.json")
TINY = str(checkpoint_path())


def q3omni(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    script = Path(sys.executable).with_name("q3omni")
    return subprocess.run([script, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a request that could not be done."""
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert done.stderr.startswith("q3omni: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    return done.stderr
