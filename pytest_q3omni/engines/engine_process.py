"""A foreign engine as a process of its own: what it inherits, how it is asked, how it ends, and its last words.

Its memory, a GPU's too, is really given back when it ends, and whatever kills it does not kill us.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytest_q3omni.errors import EngineError

MOST_BYTES = 256_000_000
"""Largest answer; log-probabilities of a thousand tokens are 0.1 MB."""

_TAKEN_AWAY = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
_CAUSE = re.compile(r"(?:^|[\s.(])[A-Z]\w*(?:Error|Exception|Exit)\b: |\bout of memory\b|\bkilled\b", re.IGNORECASE)
_ESCAPE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_LINES, _CAUSES, _LONGEST, _TAIL_BYTES = 6, 3, 300, 200_000
_LOOK_SECONDS = 0.5
_GRACE_SECONDS = 10.0


def environment(python: Path) -> dict[str, str]:
    """What an engine's interpreter inherits: nothing that belongs to ours, unless it is ours."""
    own = python.absolute() == Path(sys.executable).absolute()
    inherited = {key: value for key, value in os.environ.items() if own or key not in _TAKEN_AWAY}
    if "PYTHONPATH" in inherited:  # it works in another folder
        places = inherited["PYTHONPATH"].split(os.pathsep)
        inherited["PYTHONPATH"] = os.pathsep.join(str(Path(place).absolute()) for place in places if place)
    return inherited


def end(process: subprocess.Popen[bytes]) -> None:
    """End what is left of the process's group, itself included."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def how_it_ended(code: int) -> str:
    """`ended with code 1`, `was ended by signal 9 (Killed); ...`."""
    if code >= 0:
        return f"ended with code {code}"
    hint = "; signal 9 is often a lack of memory" if code == -signal.SIGKILL else ""
    return f"was ended by signal {-code} ({signal.strsignal(-code)}){hint}"


def last_words(log: Path) -> str:
    """The last lines of a log, after the last ones that name an error further up: an engine of several processes tells
    the cause long before the one that we talk to gives up."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            lines = [_shown(line) for line in stream.read().decode("utf-8", "replace").splitlines()]
    except OSError:
        lines = []
    lines = [line for line in lines if line]
    causes = dict.fromkeys(line for line in lines[:-_LINES] if _CAUSE.search(line))
    return " / ".join([*list(causes)[-_CAUSES:], *lines[-_LINES:]]) or "nothing"


def _shown(line: str) -> str:
    """A line without colours and control characters; of a long one the beginning, or the last would hide the cause."""
    text = "".join(char if char.isprintable() else " " for char in _ESCAPE.sub("", line)).strip()
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


class EngineProcess:
    """A process that answers one line of JSON with one line of JSON, over two pipes of its own.

    command: gets two more arguments, the numbers of the file descriptors to read and to write. folder: where it works;
    its output goes to `log.txt` there. An answer is {"answer": ...} or {"error": "what went wrong"}.
    """

    def __init__(self, name: str, command: Sequence[str], folder: Path, env: Mapping[str, str]) -> None:
        self.name, self._log = name, folder / "log.txt"
        self._buffer = bytearray()
        theirs_in, self._ask = os.pipe()
        self._answers, theirs_out = os.pipe()
        try:
            with self._log.open("wb") as stream:
                self._process = subprocess.Popen(
                    [*command, str(theirs_in), str(theirs_out)], stdin=subprocess.DEVNULL, stdout=stream,
                    stderr=stream, cwd=folder, env=dict(env), pass_fds=(theirs_in, theirs_out), start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            os.close(self._ask)
            os.close(self._answers)
            raise EngineError(f"cannot be started ({error})", where=name) from error
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        os.set_blocking(self._ask, False)

    def ask(self, request: Mapping[str, Any], seconds: float) -> Any:
        """The answer to a request.

        Raises:
            EngineError: the process reports an error, died, did not answer in time, or answered nonsense. Except for
                an error that it reports, the process is ended; also where waiting for it is interrupted, or the next
                request would get this one's answer.
        """
        what = str(request.get("do", "work"))
        if self.closed:
            raise self._error(f"has ended, and was asked to `{what}`", "start it again")
        data = json.dumps(request).encode() + b"\n"
        try:
            deadline = time.monotonic() + seconds
            self._write(data, deadline)
            line = self._line(deadline)
        except (BrokenPipeError, EOFError):
            raise self._died(what) from None
        except TimeoutError:
            self.close()
            found = f"no answer to `{what}` within {seconds:g} s. Its last lines: {last_words(self._log)}"
            raise self._error(found, "use a faster device, or ask for less") from None
        except BaseException:
            self.close()
            raise
        return self._read(line, what)

    def _read(self, line: bytes, what: str) -> Any:
        try:
            content = json.loads(line)
            error, answer = content.get("error"), content.get("answer")
        except (ValueError, AttributeError, RecursionError):
            self.close()
            raise self._error(f"answered `{what}` with something else than JSON: {line[:80]!r}", _CHECK) from None
        if error is not None:
            said = last_words(self._log)
            raise self._error(f"`{what}` failed: {error}. Its last lines: {said}", "see the engine's own words")
        return answer

    def _write(self, data: bytes, deadline: float) -> None:
        rest = memoryview(data)
        while rest:
            self._ready(self._ask, selectors.EVENT_WRITE, deadline)
            rest = rest[os.write(self._ask, rest) :]

    def _line(self, deadline: float) -> bytes:
        while b"\n" not in self._buffer:
            self._ready(self._answers, selectors.EVENT_READ, deadline)
            piece = os.read(self._answers, 1 << 20)
            if not piece:
                raise EOFError
            self._buffer += piece
            if len(self._buffer) > MOST_BYTES:
                raise self._error(f"an answer of more than {MOST_BYTES:,} bytes", _CHECK)
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        return line

    def _ready(self, descriptor: int, event: int, deadline: float) -> None:
        """Wait until the pipe can be used. Its end alone does not tell of a death: children may hold it open."""
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, event)
            while True:
                left = deadline - time.monotonic()
                gone = self._process.poll() is not None
                if selector.select(0 if gone else max(0.0, min(left, _LOOK_SECONDS))):
                    return
                if gone:
                    raise EOFError
                if left <= 0:
                    raise TimeoutError

    def _died(self, what: str) -> EngineError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_SECONDS)  # its pipe closes a moment before it is gone
        code = self._process.poll()
        self.close()
        how = "closed its pipe" if code is None else how_it_ended(code)
        fix = "see the engine's own words; `q3omni doctor` says what this machine lacks"
        return self._error(f"{how} during `{what}`. Its last lines: {last_words(self._log)}", fix)

    def _error(self, found: str, fix: str) -> EngineError:
        return EngineError(found, where=self.name, expected="an answer", fix=fix)

    def close(self) -> None:
        """End the process and its children, once: later, its number may be somebody else's."""
        if self.closed:
            return
        end(self._process)
        os.close(self._ask)
        os.close(self._answers)
        self._ask = self._answers = -1

    @property
    def closed(self) -> bool:
        return self._ask < 0


_CHECK = "check that the interpreter is the one of the engine's environment"
