"""A program in the place of vLLM's interpreter: it has vLLM if one asks, and answers as it is told."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PROGRAM = """#!{python}
import json, os, signal, sys, time
from pathlib import Path

behaviour = {behaviour!r}
if sys.argv[1] == "-c":
    sys.exit(behaviour.get("probe", 0))
inside, request_file, answer_file = sys.argv[1:]
request = json.loads(Path(request_file).read_text())
seen = {{"inside": inside, "request": request, "cwd": os.getcwd(), "environment": dict(os.environ)}}
seen["files"] = sorted(os.listdir(request["model"]))
with Path({log!r}).open("a") as stream:
    stream.write(json.dumps(seen) + "\\n")
print("\\n".join(behaviour.get("says", [])), file=sys.stderr, flush=True)
if "signal" in behaviour:
    os.kill(os.getpid(), behaviour["signal"])
time.sleep(behaviour.get("sleeps", 0))
if behaviour.get("code"):
    sys.exit(behaviour["code"])
answer = behaviour["answers" if request["depth"] == "answers" else "loads"]
if isinstance(answer, list):  # one after another
    counter = Path({log!r}).with_suffix(".count")
    number = int(counter.read_text()) if counter.exists() else 0
    counter.write_text(str(number + 1))
    answer = answer[number]
Path(answer_file).write_text(answer if isinstance(answer, str) else json.dumps(answer))
"""

LOADED = {
    "versions": {"vllm": "0.32.0", "torch": "2.13.0+cpu", "platform": "cpu"},
    "rejected": None,
    "tensors": 599,
    "parameters": 121,
    "elements": 862_256,
    "methods": {},
    "unwritten": [],
    "seconds": 5.5,
    "peak_bytes": 640_000_000,
}
"""What loading a sound checkpoint answers, without its methods."""


class FakeInterpreter:
    """`python` is what to start; `seen` what it was started with, one entry a run."""

    def __init__(self, folder: Path, **behaviour: Any) -> None:
        self.python, self._log = folder / "python", folder / "seen.jsonl"
        text = _PROGRAM.format(python=sys.executable, behaviour=behaviour, log=str(self._log))
        self.python.write_text(text)
        self.python.chmod(self.python.stat().st_mode | stat.S_IXUSR)

    @property
    def seen(self) -> list[Mapping[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()] if self._log.exists() else []
