"""The interpreter that vLLM lives in: named, or where our own instructions put it, or this one."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from pytest_q3omni.errors import InvalidRequest, MissingDependency

VARIABLE = "Q3OMNI_ENGINE_PYTHON"
REQUIREMENTS = Path(__file__).with_name("vllm_requirements.txt")
_PROBE = "import importlib.util, sys; sys.exit(0 if importlib.util.find_spec('vllm') else 3)"
_PATIENCE = 60


def home() -> Path:
    """Where the instructions put the environment: in the user's own data directory."""
    from platformdirs import user_data_path

    return user_data_path("pytest-q3omni") / "vllm"


def find_python(given: str | os.PathLike[str] | None = None) -> Path:
    """The interpreter to start: `given`, else the environment variable, else the documented environment, else this one.

    Raises:
        InvalidRequest: the one that is named is no interpreter. MissingDependency: there is none with vLLM.
    """
    named = given or os.environ.get(VARIABLE)
    if named:
        return _checked(Path(named).expanduser(), "--engine-python" if given else VARIABLE)
    documented = home() / "bin" / "python"
    if documented.exists():
        return _checked(documented, "the documented environment")
    if find_spec("vllm") is not None:
        return Path(sys.executable)
    raise _missing(f"no vLLM: {VARIABLE} is not set, {documented} is not there, and {sys.executable} has none")


def how_to_make_it() -> str:
    """The commands that make the environment, on one line."""
    place = home()
    return (
        f"python3.12 -m venv {place} && {place}/bin/pip install -r {REQUIREMENTS} (3.5 GB; torch's CPU builds come "
        f"from PyTorch's own index, see that file), or in the repository `tox run -e vllm --notest`; or name another "
        f"interpreter that has vLLM with --engine-python or {VARIABLE}"
    )


def _checked(python: Path, source: str) -> Path:
    if python.is_dir() and (python / "bin" / "python").exists():
        python = python / "bin" / "python"
    if not (python.is_file() and os.access(python, os.X_OK)):
        found = "no such file" if not python.exists() else "not a program"
        raise InvalidRequest(found, where=f"{source} {python}", expected="a Python interpreter", fix="correct the path")
    try:
        done = subprocess.run([python, "-c", _PROBE], capture_output=True, timeout=_PATIENCE, check=False)
        code = done.returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        found = f"cannot be run ({type(error).__name__})"
        raise InvalidRequest(found, where=f"{source} {python}", expected="a Python interpreter") from error
    if code:
        raise _missing(f"{source} {python} has no vLLM")
    return python


def _missing(found: str) -> MissingDependency:
    return MissingDependency(found, expected="an environment of its own with vLLM", fix=how_to_make_it())
