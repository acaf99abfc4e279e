"""Kernels never fail for want of a cache: no folder for it, a full disk, a damaged file, many processes, a fork."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pytest_q3omni

pytestmark = pytest.mark.tiny

PACKAGE = Path(pytest_q3omni.__file__).parent

PACK = """
import hashlib, ml_dtypes, numpy as np
from pytest_q3omni.nvfp4 import pack_tensor
from pytest_q3omni.nvfp4.kernels import blocks
weight = np.random.default_rng(1).standard_normal((64, 4096)).astype(ml_dtypes.bfloat16)
def digest():
    packed = pack_tensor(weight)
    return hashlib.sha256(packed.codes.tobytes() + packed.block_scale.tobytes()).hexdigest()
"""


def start(code: str, **environment: str | Path) -> subprocess.Popen[str]:
    environment = {"PYTHONPATH": PACKAGE.parent, "PYTHONDONTWRITEBYTECODE": "1", **environment}
    env = {**os.environ, **{name: str(value) for name, value in environment.items()}}
    command = [sys.executable, "-P", "-c", PACK + code]  # -P: PYTHONPATH decides, not the current folder
    return subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return output.strip()


def run(code: str, **environment: str | Path) -> str:
    return finish(start(code, **environment))


@pytest.fixture(scope="module")
def expected() -> str:
    return run("print(digest())")


def test_the_cache_is_used(tmp_path: Path, expected: str) -> None:
    assert run("print(digest())", NUMBA_CACHE_DIR=tmp_path) == expected
    compiled = {file.name: file.stat().st_mtime_ns for file in tmp_path.rglob("*.nbc")}
    assert len(compiled) == 1, "one signature, and only the kernel that was called"
    assert run("print(digest())", NUMBA_CACHE_DIR=tmp_path) == expected
    assert {file.name: file.stat().st_mtime_ns for file in tmp_path.rglob("*.nbc")} == compiled


def test_no_folder_for_the_cache(tmp_path: Path, expected: str) -> None:
    """Files stand where numba would make its folders: nobody can write there, not even root."""
    copy = tmp_path / PACKAGE.name
    shutil.copytree(PACKAGE / "nvfp4", copy / "nvfp4", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("__init__.py", "errors.py"):
        shutil.copy(PACKAGE / name, copy)
    no_folder = tmp_path / "file"
    for file in (no_folder, copy / "nvfp4" / "kernels" / "__pycache__"):
        file.write_text("")
    code = """
import numba
assert blocks.__file__.startswith(FOLDER), blocks.__file__
try:
    numba.njit(cache=True)(blocks.pack_blocks._function)
except RuntimeError as error:
    assert "cannot cache function" in str(error), error
else:
    raise AssertionError("numba found a folder after all")
print(digest())
""".replace("FOLDER", repr(str(tmp_path)))
    environment = dict.fromkeys(("NUMBA_CACHE_DIR", "HOME", "XDG_CACHE_HOME"), no_folder)
    assert run(code, PYTHONPATH=tmp_path, **environment) == expected


def test_a_full_disk(tmp_path: Path, expected: str) -> None:
    """A limit of 0 bytes for files: opening one works, writing to it does not."""
    pytest.importorskip("resource", reason="file size limits need POSIX")
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); print(digest())"
    assert run(code, NUMBA_CACHE_DIR=tmp_path) == expected
    assert not any(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())


@pytest.mark.parametrize("kind", ["*.nbi", "*.nbc"])
@pytest.mark.parametrize("content", [b"", b"rubbish"])
def test_a_damaged_cache(tmp_path: Path, expected: str, kind: str, content: bytes) -> None:
    run("digest()", NUMBA_CACHE_DIR=tmp_path)
    damaged = list(tmp_path.rglob(kind))
    assert damaged
    for file in damaged:
        file.write_bytes(content)
    assert run("print(digest())", NUMBA_CACHE_DIR=tmp_path) == expected


def test_many_processes_at_once(tmp_path: Path, expected: str) -> None:
    processes = [start("print(digest())", NUMBA_CACHE_DIR=tmp_path) for _ in range(4)]
    assert [finish(process) for process in processes] == [expected] * 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_after_the_threads_have_started(expected: str) -> None:
    code = """
import os, signal
from pytest_q3omni.nvfp4.kernels import threads
threads.cores = lambda: 2
before = digest()
assert threads._pool is not None
child = os.fork()
if child == 0:
    signal.alarm(60)  # waiting for threads that a fork does not copy lasts for ever
    os._exit(0 if digest() == before else 1)
assert os.waitpid(child, 0)[1] == 0
print(before)
"""
    assert run(code) == expected


def test_a_fault_of_the_kernel_itself_is_raised() -> None:
    code = """
from numba import types
from numba.core.errors import NumbaError
from pytest_q3omni.nvfp4.kernels.compiled import kernel
@kernel(types.int64(types.int64))
def wrong(number):
    return number.no_such_attribute
try:
    wrong(1)
except NumbaError as error:
    print(type(error).__name__)
"""
    assert run(code) == "TypingError"
