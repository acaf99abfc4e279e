"""Programs in the place of an engine's process: they read lines of JSON from one pipe and write into another."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytest_q3omni.engines.engine_process import EngineProcess

_BEGIN = """
import json, os, signal, subprocess, sys, time
reading, writing = map(int, sys.argv[-2:])
requests = os.fdopen(reading)

def answer(value):
    os.write(writing, json.dumps({"answer": value}).encode() + b"\\n")

def asked():
    return json.loads(requests.readline())

def sleep_for_ever():
    while True:
        time.sleep(1)

"""


def begin(folder: Path, body: str, name: str = "an engine") -> EngineProcess:
    """A process that runs `body`, which may use `answer`, `asked`, `writing` and `sleep_for_ever`."""
    program = folder / "worker.py"
    program.write_text(_BEGIN + body, encoding="utf-8")
    return EngineProcess(name, [sys.executable, str(program)], folder, os.environ)


def loop(replies: str) -> str:
    """A body that answers each request with the expression `replies`, in which `it` is the request."""
    return f"for line in requests:\n    it = json.loads(line)\n    answer({replies})\n"


def starter(body: str, folders: list[Path] | None = None) -> Callable[[Path], EngineProcess]:
    """What `ServingProcess` starts: the body in the folder that it is given, which `folders` remembers."""

    def start(folder: Path) -> EngineProcess:
        if folders is not None:
            folders.append(folder)
        return begin(folder, body)

    return start


class FakeServer:
    """A program in the place of vLLM's interpreter, which says that it has vLLM and notes what it is started with.

    It answers every "load" with `loaded`, and everything else with an error.
    """

    def __init__(self, folder: Path, loaded: Mapping[str, Any]) -> None:
        self.python, self._log = folder / "python", folder / "seen.jsonl"
        self.python.write_text(_SERVER.format(python=sys.executable, loaded=dict(loaded), log=str(self._log)))
        self.python.chmod(0o755)

    @property
    def seen(self) -> list[Mapping[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()] if self._log.exists() else []


_SERVER = """#!{python}
import json, os, sys
if sys.argv[1] == "-c":
    sys.exit(0)
program, do, folder, reading, writing = sys.argv[1:]
for line in os.fdopen(int(reading)):
    request = json.loads(line)
    files = sorted(os.listdir(request["model"])) if "model" in request else []
    note = {{"program": program, "do": do, "folder": folder, "request": request, "files": files}}
    note |= {{"cwd": os.getcwd(), "environment": dict(os.environ)}}
    if files:
        note["config"] = json.loads(open(os.path.join(request["model"], "config.json")).read())
    with open({log!r}, "a") as stream:
        stream.write(json.dumps(note) + "\\n")
    reply = {{"answer": {loaded!r}}} if request["do"] == "load" else {{"error": "ValueError: not here"}}
    os.write(int(writing), json.dumps(reply).encode() + b"\\n")
"""
